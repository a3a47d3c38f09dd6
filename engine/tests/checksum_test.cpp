#include "build.hpp"
#include "harness.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

std::uint16_t plain_checksum(const Octets& octets) {
  std::uint32_t sum = 0;
  for (std::size_t at = 0; at < octets.size(); at += 2) {
    sum += static_cast<std::uint32_t>(octets[at] << 8 | (at + 1 < octets.size() ? octets[at + 1] : 0));
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return static_cast<std::uint16_t>(~sum);
}

}  // namespace

TEST_CASE(checksum_of_the_example_in_rfc_1071) {
  const Octets octets = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
  CHECK_EQUAL(checksum(octets.data(), octets.size()), static_cast<std::uint16_t>(~0xddf2));
}

TEST_CASE(checksum_of_any_length_and_alignment) {
  Random random(1);
  for (std::size_t length = 0; length < 300; ++length) {
    const Octets octets = random.octets(length + 3);
    for (std::size_t start = 0; start < 3; ++start) {
      CHECK_EQUAL(checksum(octets.data() + start, length), plain_checksum(Octets(octets.begin() + static_cast<long>(start), octets.begin() + static_cast<long>(start + length))));
    }
  }
  const Octets worst(65535, 0xff);
  CHECK_EQUAL(checksum(worst.data(), worst.size()), plain_checksum(worst));
}

TEST_CASE(checksum_updates_as_it_is_computed_anew) {
  Random random(2);
  for (int turn = 0; turn < 20000; ++turn) {
    Octets header = random.octets(20);
    header[0] = 0x45;
    write_header_checksum(header.data());
    CHECK(is_checksum_right(header.data(), header.size()));
    const std::uint16_t before = load16(header.data());
    header[1] = static_cast<std::uint8_t>(random.below(256));
    update_header_checksum(header.data(), before, load16(header.data()));
    CHECK(is_checksum_right(header.data(), header.size()));
  }
}
