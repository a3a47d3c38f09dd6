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
  for (const SumCode& code : sum_codes()) {
    for (std::size_t length = 0; length < 600; ++length) {
      const Octets octets = random.octets(length + 33);
      for (std::size_t start = 0; start < 33; ++start) {
        const auto first = octets.begin() + static_cast<long>(start);
        const Octets part(first, first + static_cast<long>(length));  // exactly as long, so that a sanitizer sees an overrun
        const std::uint16_t expected = plain_checksum(part);
        CHECK_EQUAL(finish_sum(code.sum(octets.data() + start, length, 0)), expected);
        CHECK_EQUAL(finish_sum(code.sum(part.data(), length, 0)), expected);
      }
    }
  }
}

TEST_CASE(checksum_of_what_is_copied) {
  Random random(3);
  for (const SumCode& code : sum_codes()) {
    for (std::size_t length = 0; length < 600; ++length) {
      const Octets octets = random.octets(length);
      for (const std::size_t start : {0U, 1U, 2U, 15U, 31U, 32U}) {
        Octets room(start + length + 1, 0xa5);
        const std::uint64_t before = random.below(0x10000);
        const std::uint64_t sum = code.copy(room.data() + start, octets.data(), length, before);
        CHECK_EQUAL(finish_sum(sum), finish_sum(sum_codes().front().sum(octets.data(), length, before)));
        CHECK(std::equal(octets.begin(), octets.end(), room.begin() + static_cast<long>(start)));
        CHECK_EQUAL(room.back(), 0xa5);
      }
    }
  }
}

// Sums that reach the highest value that a lane may hold, and the lowest.
TEST_CASE(checksum_of_the_longest_runs) {
  for (const int fill : {0x00, 0x7f, 0x80, 0xff}) {
    const Octets octets(3 << 20 | 7, static_cast<std::uint8_t>(fill));
    for (const SumCode& code : sum_codes()) CHECK_EQUAL(finish_sum(code.sum(octets.data(), octets.size(), 0)), plain_checksum(octets));
  }
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

TEST_CASE(checksum_of_udp_is_never_0) {
  for (std::uint32_t sum = 0; sum <= 0x10000; ++sum) {
    const std::uint16_t plain = finish_sum(sum);
    CHECK_EQUAL(udp_checksum_of(sum), plain == 0 ? 0xffff : plain);
  }
}

TEST_CASE(a_new_length_is_written_as_if_it_had_been_there_from_the_start) {
  Random random(4);
  for (std::size_t size = 0; size < 2000; size += 7) {
    const Octets payload = random.octets(size);
    for (const std::size_t options : {0U, 4U, 40U}) {
      const Octets whole = ipv4(payload, {.tos = 3, .identification = 7, .options = Octets(options, 1)});
      Octets other = ipv4({}, {.tos = 3, .identification = 7, .options = Octets(options, 1)});
      other.insert(other.end(), payload.begin(), payload.end());
      set_total_length(other.data(), other.size());
      CHECK(other == whole);
    }
    Octets other = ipv6({});
    other.insert(other.end(), payload.begin(), payload.end());
    set_total_length(other.data(), other.size());
    CHECK(other == ipv6(payload));
  }
}
