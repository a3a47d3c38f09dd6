// The packet ring on a real interface: what its filter takes, where frames lie, and what a full ring counts.
#include "packet_ring.hpp"

#include <poll.h>

#include <cerrno>
#include <vector>

#include "own_network.hpp"
#include "ring_filter.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

constexpr MacAddress token = {0x02, 0x47, 0x44, 0x4f, 0x49, 0x77};
constexpr std::uint32_t mtu = 1500;

PacketRing ring_on_wan() { return {Device::named("wan"), token, mtu}; }

Octets esp(std::uint32_t spi, std::uint32_t size = 60, Header header = {}) {
  Octets payload(size);
  store32(payload.data(), spi);
  store32(&payload[4], size);
  header.protocol = protocol_esp;
  return frame_around(ipv4(payload, header));
}

Octets esp_over_ipv6(std::uint32_t spi, std::uint8_t next_header = protocol_esp) {
  Octets packet(40 + 60);
  packet[0] = 0x60;
  store16(&packet[4], 60);
  packet[6] = next_header;
  store32(&packet[40], spi);
  Octets frame = frame_around(packet);
  store16(&frame[12], 0x86dd);
  return frame;
}

// Sends a frame that the ring is to take or to leave. A marker that it takes comes behind, so that nothing has to be waited for.
bool is_taken(PacketRing& ring, const Ear& core, const Octets& frame) {
  const Octets marker = esp(99, 76);
  core.send(frame);
  core.send(marker);
  std::vector<Octets> seen;
  for (std::uint32_t turn = 0; turn < 2; ++turn) {
    pollfd readable{ring.descriptor(), POLLIN, 0};
    if (!ring.has(0)) poll(&readable, 1, 3000);
    if (!ring.has(0)) break;
    const PacketRing::Frame found = ring.frame(0);
    seen.emplace_back(found.data, found.data + found.length);
    if (!found.is_whole || found.headroom < 26) fail(__FILE__, __LINE__, "a frame of the ring is not as promised");
    ring.release(1);
    if (seen.back() == marker) break;
  }
  if (seen.empty() || seen.back() != marker) fail(__FILE__, __LINE__, "the marker did not come");
  if (seen.size() == 2 && seen.front() != frame) fail(__FILE__, __LINE__, "the frame came changed");
  return seen.size() == 2;
}

}  // namespace

TEST_CASE(a_ring_takes_esp_of_its_sas_and_nothing_else) {
  if (!has_own_network()) return;
  PacketRing ring = ring_on_wan();
  const Ear core("core");
  const std::vector<std::uint32_t> spis = {7, 99, 0x12345678, 0xfffffff0};
  ring.set_spis(spis);
  for (const std::uint32_t spi : spis) CHECK(is_taken(ring, core, esp(spi)));
  CHECK(is_taken(ring, core, esp(7, 60, {.options = {1, 1, 1, 0}})));
  CHECK(is_taken(ring, core, esp(7, ring.longest_packet() - 20 > 1480 ? 1480 : 8)));
  CHECK(is_taken(ring, core, esp_over_ipv6(7)));
  for (const std::uint32_t spi : {0U, 6U, 8U, 98U, 0x12345677U, 0xffffffffU}) CHECK(!is_taken(ring, core, esp(spi)));
  CHECK(!is_taken(ring, core, esp_over_ipv6(8)));
  CHECK(!is_taken(ring, core, esp_over_ipv6(7, protocol_destination_options)));
  CHECK(!is_taken(ring, core, esp(7, 64, {.fragment = Ipv4::more_fragments})));
  CHECK(!is_taken(ring, core, esp(7, 64, {.fragment = 8})));
  CHECK(is_taken(ring, core, esp(7, 64, {.fragment = Ipv4::dont_fragment})));
  Octets other = esp(7);
  other[23] = protocol_udp;
  CHECK(!is_taken(ring, core, other));
  other = esp(7);
  std::copy(token.begin(), token.end(), other.begin() + 6);
  CHECK(!is_taken(ring, core, other));
  other[11] ^= 1;
  CHECK(is_taken(ring, core, other));
  other = esp(7);
  other[5] ^= 1;  // another host's
  CHECK(!is_taken(ring, core, other));
  other = esp(7);
  other.insert(other.begin() + 12, {0x81, 0x00, 0x00, 0x05});
  CHECK(!is_taken(ring, core, other));
  other = {other.begin(), other.begin() + 14};  // nothing behind the link header
  CHECK(!is_taken(ring, core, other));
}

TEST_CASE(a_ring_leaves_frames_that_are_too_long_for_it) {
  if (!has_own_network()) return;
  run("ip link set wan mtu 4000 && ip link set core mtu 4000");
  PacketRing ring = ring_on_wan();
  const Ear core("core");
  ring.set_spis(std::vector<std::uint32_t>{7, 99});
  CHECK(ring.longest_packet() >= mtu);
  CHECK(is_taken(ring, core, esp(7, ring.longest_packet() - 20)));
  CHECK(!is_taken(ring, core, esp(7, ring.longest_packet() - 19)));
  run("ip link set wan mtu 1500 && ip link set core mtu 1500");
}

TEST_CASE(a_filter_finds_each_of_many_spis) {
  if (!has_own_network()) return;
  PacketRing ring = ring_on_wan();
  const Ear core("core");
  for (const std::uint32_t count : {1U, 4U, 5U, 200U, 1000U}) {
    std::vector<std::uint32_t> spis = {99};
    for (std::uint32_t index = 0; spis.size() < count; ++index) spis.push_back(1000 + index * 3);
    ring.set_spis(spis);
    for (std::size_t index = 0; index < count; index += count / 5 + 1) {
      CHECK(is_taken(ring, core, esp(spis[index])));
      CHECK(!is_taken(ring, core, esp(spis[index] + 1)));
    }
    CHECK(is_taken(ring, core, esp(spis.back())));
  }
  ring.set_spis(std::vector<std::uint32_t>(maximum_spis + 1, 99));
  CHECK(is_taken(ring, core, esp(5)));
  ring.set_spis({});
  core.send(esp(5));
  core.send(esp(99));
  CHECK(!ring.has(0));
}

TEST_CASE(a_full_ring_counts_what_it_loses) {
  if (!has_own_network()) return;
  PacketRing ring = ring_on_wan();
  const Ear core("core");
  ring.set_spis(std::vector<std::uint32_t>{7});
  constexpr std::uint32_t extra = 100;
  const Octets frame = esp(7);
  std::uint32_t count = 0;
  while (ring.overruns() < extra && count < 3 * PacketRing::frame_count) {
    for (std::uint32_t more = 0; more < 10; ++more, ++count) core.send(frame);
  }
  std::uint32_t came = 0;
  for (; ring.has(0); ++came) ring.release(1);
  CHECK(came >= PacketRing::frame_count);
  CHECK_EQUAL(came + ring.overruns(), count);
}

TEST_CASE(a_ring_goes_on_when_its_interface_comes_up_again) {
  if (!has_own_network()) return;
  PacketRing ring = ring_on_wan();
  const Ear core("core");
  ring.set_spis(std::vector<std::uint32_t>{7, 99});
  CHECK(is_taken(ring, core, esp(7)));
  run("ip link set wan down");
  CHECK_EQUAL(ring.take_error(), ENETDOWN);
  run("ip link set wan name wan2 && ip link set wan2 up");
  CHECK_EQUAL(ring.take_error(), 0);
  CHECK(is_taken(ring, core, esp(7)));
  run("ip link set wan2 down && ip link set wan2 name wan && ip link set wan up");
}
