// Rings on a real interface, each kind of them: what they take, where frames lie, and what a full ring counts.
#include "frame_ring.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <set>
#include <thread>
#include <vector>

#include "bpf_ring.hpp"
#include "error.hpp"
#include "frame_ring_rig.hpp"
#include "own_network.hpp"
#include "packet_ring.hpp"
#include "ring_filter.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

// Runs a test with a ring of each kind that this kernel has.
template <typename Test>
void with_each_ring(Test test) {
  if (!has_own_network()) return;
  const Ear core("core");
  PacketRing packet_ring(Device::named("wan"), token, mtu);
  test(packet_ring, core);
  if (!has_tcx()) return;
  const auto rings = bpf_rings();
  rings.front()->rise();
  test(*rings.front(), core);
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

// Linux lets an interface send some time after it was brought up, and drops what comes before.
void wait_for_the_link(FrameRing& ring, const Ear& core) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!ring.has() && std::chrono::steady_clock::now() < deadline) {
    core.send(esp(99, 76));
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  while (ring.has()) {
    ring.take();
    ring.release();
  }
}

// Sends a frame that the ring is to take or to leave. A marker that it takes comes behind, so that nothing has to be waited for.
bool is_taken(FrameRing& ring, const Ear& core, const Octets& frame) {
  const Octets marker = esp(99, 76);
  core.send(frame);
  core.send(marker);
  std::vector<Octets> seen;
  for (std::uint32_t turn = 0; turn < 2; ++turn) {
    if (!has_come(ring)) break;
    const FrameRing::Frame found = ring.take();
    seen.emplace_back(found.data, found.data + found.length);
    if (!found.is_whole || found.headroom < 26) fail(__FILE__, __LINE__, "a frame of the ring is not as promised");
    ring.release();
    if (seen.back() == marker) break;
  }
  if (seen.empty() || seen.back() != marker) fail(__FILE__, __LINE__, "the marker did not come");
  if (seen.size() == 2 && seen.front() != frame) fail(__FILE__, __LINE__, "the frame came changed");
  return seen.size() == 2;
}

}  // namespace

TEST_CASE(a_ring_takes_esp_of_its_sas_and_nothing_else) {
  with_each_ring([](FrameRing& ring, const Ear& core) {
    const std::vector<std::uint32_t> spis = {7, 99, 0x12345678, 0xfffffff0};
    take(ring, spis);
    for (const std::uint32_t spi : spis) CHECK(is_taken(ring, core, esp(spi)));
    CHECK(is_taken(ring, core, esp(7, 60, {.options = {1, 1, 1, 0}})) == ring.leaves_copies());  // only the packet ring knows options
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
    other[11] ^= 1;  // the tag of an SA
    CHECK(!is_taken(ring, core, other));
    other[9] ^= 1;
    CHECK(is_taken(ring, core, other));
    other = esp(7);
    other[5] ^= 1;  // another host's
    CHECK(!is_taken(ring, core, other));
    other = esp(7);
    other.insert(other.begin() + 12, {0x81, 0x00, 0x00, 0x05});
    CHECK(!is_taken(ring, core, other));
    other = {other.begin(), other.begin() + 14};  // nothing behind the link header
    CHECK(!is_taken(ring, core, other));
    take(ring, {99});
    CHECK(!is_taken(ring, core, esp(7)));
  });
}

TEST_CASE(a_ring_takes_frames_that_lie_in_pages) {
  with_each_ring([](FrameRing& ring, const Ear& /*core*/) {
    take(ring, {7, 99});
    const auto comes = [&ring](const Octets& frame) {
      send_in_pages("core", frame);
      if (!has_come(ring)) return false;
      const FrameRing::Frame found = ring.take();
      const bool is_same = found.is_whole && Octets(found.data, found.data + found.length) == frame;
      ring.release();
      return is_same;
    };
    for (const std::uint32_t size : {12U, 60U, 1000U, 1480U}) CHECK(comes(esp(7, size)));
    CHECK(comes(esp_over_ipv6(7)));
    for (const Octets& other : {esp(8), esp_over_ipv6(8), esp_over_ipv6(7, protocol_udp)}) send_in_pages("core", other);
    Octets too_short = esp_over_ipv6(7);  // for the BPF program
    too_short.resize(14 + 40 + 11);
    if (!ring.leaves_copies()) send_in_pages("core", too_short);
    CHECK(comes(esp(99)));
  });
}

TEST_CASE(a_ring_leaves_frames_that_are_too_long_for_it) {
  with_each_ring([](FrameRing& ring, const Ear& core) {
    run("ip link set wan mtu 4000 && ip link set core mtu 4000");
    take(ring, {7, 99});
    CHECK(ring.longest_packet() >= mtu);
    CHECK(is_taken(ring, core, esp(7, ring.longest_packet() - 20)));
    CHECK(!is_taken(ring, core, esp(7, ring.longest_packet() - 19)));
    run("ip link set wan mtu 1500 && ip link set core mtu 1500");
  });
}

TEST_CASE(a_ring_finds_each_of_many_spis) {
  with_each_ring([](FrameRing& ring, const Ear& core) {
    for (const std::uint32_t count : {1U, 4U, 5U, 200U, 1000U}) {
      std::vector<std::uint32_t> spis = {99};
      for (std::uint32_t index = 0; spis.size() < count; ++index) spis.push_back(1000 + index * 3);
      take(ring, spis);
      for (std::size_t index = 0; index < count; index += count / 5 + 1) {
        CHECK(is_taken(ring, core, esp(spis[index])));
        CHECK(!is_taken(ring, core, esp(spis[index] + 1)));
      }
      CHECK(is_taken(ring, core, esp(spis.back())));
    }
    take(ring, {});
    core.send(esp(5));
    core.send(esp(99));
    CHECK(!ring.has());
  });
}

TEST_CASE(a_filter_that_cannot_hold_all_spis_takes_any) {
  if (!has_own_network()) return;
  PacketRing ring(Device::named("wan"), token, mtu);
  take(ring, std::vector<std::uint32_t>(maximum_spis + 1, 99));
  CHECK(is_taken(ring, Ear("core"), esp(5)));
}

// On older kernels a socket has 20480 octets for its options, and a filter needs room beside the one that it replaces.
TEST_CASE(a_filter_that_the_kernel_has_no_room_for_takes_any_spi) {
  if (!has_own_network()) return;
  constexpr const char* limit = "/proc/sys/net/core/optmem_max";
  const auto set_limit = [](std::uint32_t octets) { return static_cast<bool>(std::ofstream(limit) << octets << std::flush); };
  std::uint32_t before = 0;
  if (!(std::ifstream(limit) >> before) || !set_limit(20480)) return skip("net.core.optmem_max of a network of its own");  // older kernels have none
  const Ear core("core");
  PacketRing ring(Device::named("wan"), token, mtu);
  const auto takes_any = [&ring, &core](std::uint32_t count) {
    std::vector<std::uint32_t> spis = {99};
    for (std::uint32_t index = 0; spis.size() < count; ++index) spis.push_back(0x90000000 + index * 3);
    take(ring, spis);
    CHECK(count == 1 || is_taken(ring, core, esp(spis.back())));
    return is_taken(ring, core, esp(5));
  };
  for (const std::uint32_t count : {100U, 200U, 300U, 200U, 1U}) CHECK(!takes_any(count));
  CHECK(takes_any(maximum_spis));
  CHECK(!takes_any(200));
  set_limit(1 << 20);
  CHECK(!takes_any(maximum_spis));
  set_limit(4096);  // not even the short one has room beside that of now
  CHECK(takes_any(maximum_spis));
  CHECK(!takes_any(1));
  set_limit(before);
}

TEST_CASE(a_bpf_ring_leaves_what_it_began_to_take_before_a_failure) {
  if (!has_own_network() || !has_tcx()) return;
  const auto rings = bpf_rings();
  FrameRing& ring = *rings.front();
  const Ear core("core");
  ring.rise();
  take(ring, {99});
  std::vector<std::uint32_t> too_many;
  for (std::uint32_t spi = 1000; spi <= 1000 + BpfIngress::maximum_spis; ++spi) too_many.push_back(spi);
  bool is_refused = false;
  try {
    take(ring, too_many);
  } catch (const EngineError&) {
    is_refused = true;
  }
  CHECK(is_refused);
  take(ring, {7, 99});
  CHECK(is_taken(ring, core, esp(7)));
  CHECK(!is_taken(ring, core, esp(1000)));
  CHECK(!is_taken(ring, core, esp(2000)));
}

TEST_CASE(a_full_ring_counts_what_it_loses_and_goes_on) {
  with_each_ring([](FrameRing& ring, const Ear& core) {
    take(ring, {7, 99});
    constexpr std::uint32_t extra = 100, enough = 200'000;
    const Octets frame = esp(7);
    std::uint32_t count = 0;
    while (ring.overruns() < extra && count < enough) {
      for (std::uint32_t more = 0; more < 10; ++more, ++count) core.send(frame);
    }
    std::uint32_t came = 0;
    for (; ring.has(); ++came) {
      static_cast<void>(ring.take());
      ring.release();
    }
    CHECK(came >= PacketRing::frame_count && ring.overruns() >= extra);
    CHECK_EQUAL(came + ring.overruns(), count);
    CHECK(is_taken(ring, core, frame));
  });
}

TEST_CASE(a_ring_goes_on_when_its_interface_comes_up_again) {
  with_each_ring([](FrameRing& ring, const Ear& core) {
    take(ring, {7, 99});
    CHECK(is_taken(ring, core, esp(7)));
    run("ip link set wan down");
    CHECK_EQUAL(ring.take_error(), ring.leaves_copies() ? ENETDOWN : 0);
    run("ip link set wan name wan2 && ip link set wan2 up");
    CHECK_EQUAL(ring.take_error(), 0);
    wait_for_the_link(ring, core);
    CHECK(is_taken(ring, core, esp(7)));
    run("ip link set wan2 down && ip link set wan2 name wan && ip link set wan up");
  });
}

TEST_CASE(what_waits_in_a_ring_at_the_end_is_thrown_away_and_counted) {
  with_each_ring([](FrameRing& ring, const Ear& core) {
    ring.set_spis(std::array{TakenSpi{7, Spread::by_spi}});
    for (int sent = 0; sent < 3; ++sent) core.send(esp(7));
    CHECK(has_come(ring));
    CHECK_EQUAL(ring.discard(), 3U);
    CHECK(!ring.has());
    CHECK_EQUAL(ring.discard(), 0U);
  });
}

// A port that goes must not have to keep up with who sends.
TEST_CASE(a_ring_that_is_thrown_away_takes_nothing_more) {
  with_each_ring([](FrameRing& ring, const Ear& core) {
    take(ring, {7, 99});
    ring.rise();
    constexpr std::uint64_t count = 50;
    for (std::uint64_t number = 0; number < count; ++number) core.send(esp(7));
    CHECK_EQUAL(ring.discard(), count);
    core.send(esp(7));
    CHECK(!ring.has());
    CHECK_EQUAL(ring.discard(), 0U);
  });
}

// Its end would be its beginning.
TEST_CASE(a_full_packet_ring_stops_before_its_last_frame) {
  if (!has_own_network()) return;
  const Ear core("core");
  PacketRing ring(Device::named("wan"), token, mtu);
  take(ring, {7});
  for (std::uint32_t number = 0; number < 2 * PacketRing::frame_count; ++number) core.send(esp(7));
  const auto take_all = [&ring] {
    std::uint32_t count = 0;
    for (; ring.has(); ++count) CHECK(ring.take().is_whole);
    ring.release();
    return count;
  };
  ring.stop_here();
  CHECK(take_all() >= PacketRing::frame_count - 1);
  CHECK(!ring.has());
  ring.go_on();
  CHECK_EQUAL(take_all(), 1U);
  CHECK(ring.overruns() != 0);
}

// Packets that have to stay together may come by a ring, or by the TAP where they are special. Both ways lead to the same worker.
TEST_CASE(a_ring_and_a_queue_of_the_tap_get_what_belongs_together) {
  if (!has_own_network() || !has_tcx()) return;
  const std::vector<Descriptor> in = open_tap("in", 2);
  const std::array<int, 2> queues = {in[0].number(), in[1].number()};
  const auto rings = BpfRing::make(Device::named("wan"), token, mtu, queues);
  rings.front()->set_spis(std::vector<TakenSpi>{{7, Spread::by_addresses}, {8, Spread::by_sender}, {9, Spread::by_spi}, {10, Spread::by_spi}, {11, Spread::by_spi},
                                                {12, Spread::by_spi}, {13, Spread::by_spi}, {14, Spread::by_spi}});
  for (const auto& ring : rings) ring->rise();
  const Ear core("core"), kernel("in");
  const auto by_ring = [&](const Octets& frame) {
    core.send(frame);
    for (std::size_t number = 0; number < rings.size(); ++number) {
      if (!rings[number]->has()) continue;
      static_cast<void>(rings[number]->take());
      rings[number]->release();
      return static_cast<int>(number);
    }
    return -1;
  };
  const auto by_queue = [&](const Octets& frame) {
    kernel.send(frame);
    for (std::size_t number = 0; number < queues.size(); ++number) {
      std::array<std::uint8_t, 3000> room;
      if (read(queues[number], room.data(), room.size()) > 0) return static_cast<int>(number);
    }
    return -1;
  };
  const auto used = [&](const auto& frame_of) {
    std::set<int> numbers;
    for (std::uint32_t number = 0; number < 40; ++number) {
      const Octets frame = frame_of(number);
      const int ring = by_ring(frame);
      CHECK(ring >= 0);
      CHECK_EQUAL(by_queue(frame), ring);
      numbers.insert(ring);
    }
    return numbers.size();
  };
  CHECK_EQUAL(used([](std::uint32_t number) { return esp(7, 60, {.source = 0x0a010000 + number}); }), 2U);
  CHECK_EQUAL(used([](std::uint32_t number) { return esp(8, 60, {.source = 0x0a010000 + number}); }), 1U);  // all have one sender
  CHECK_EQUAL(used([](std::uint32_t number) {
    Octets frame = esp(8);
    store32(&frame[14 + 20 + 8], number << 8);
    return frame;
  }), 2U);
  CHECK_EQUAL(used([](std::uint32_t number) { return esp(9, 60, {.source = 0x0a010000 + number}); }), 1U);
  CHECK_EQUAL(used([](std::uint32_t number) { return esp(9 + number % 6); }), 2U);
}
