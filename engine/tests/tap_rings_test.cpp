// Rings that outbound TAPs fill: what goes into them and how, what goes on to the TAP, and that no packet overtakes another one.
#include "tap_rings.hpp"

#include <array>
#include <cerrno>
#include <concepts>
#include <cstdio>
#include <optional>
#include <set>
#include <vector>

#include "checksum.hpp"
#include "error.hpp"
#include "offload.hpp"
#include "own_network.hpp"
#include "packet.hpp"
#include "tap.hpp"
#include "tap_program.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

constexpr std::size_t queue = 77;
constexpr std::size_t header_size = 10;  // of virtio, before a frame
constexpr std::uint32_t mark = RiseMark::of(5);

// As it comes from the TAP when a ring rests.
Octets marked(Octets frame) {
  const Octets tag = {0x88, 0xa8, mark >> 8, mark & 0xff};
  frame.insert(frame.begin() + RiseMark::at, tag.begin(), tag.end());
  return frame;
}

// A TAP with the program, and a socket that sends like a driver of a virtual machine: with the request of a checksum or of segmentation.
struct Rig {
  explicit Rig(std::size_t workers = 1, std::uint32_t mtu = 1500) : taps(open_tap("out", workers)), rings(static_cast<std::uint32_t>(workers), mtu) {
    std::vector<int> numbers;
    for (const Descriptor& tap : taps) numbers.push_back(tap.number());
    for (const int number : numbers) Tap(number, TapOffload::super_packets);
    program = rings.attach(numbers, queue);
    const int yes = 1;
    if (setsockopt(sender.number(), SOL_PACKET, PACKET_VNET_HDR, &yes, sizeof yes) != 0) fail(__FILE__, __LINE__, "PACKET_VNET_HDR");
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_ifindex = static_cast<int>(if_nametoindex("out"));
    if (bind(sender.number(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) fail(__FILE__, __LINE__, "bind");
  }

  void send(const Octets& frame, const Offload& offload = {}) const {
    Octets whole(header_size + frame.size());
    offload.write(whole.data());
    std::copy(frame.begin(), frame.end(), whole.begin() + header_size);
    const ssize_t sent = ::send(sender.number(), whole.data(), whole.size(), 0);
    if (sent != static_cast<ssize_t>(whole.size()) && errno != ENOBUFS) fail(__FILE__, __LINE__, "send");  // ENOBUFS: a program has it
  }

  // What waits at the TAP, without the virtio header; empty without.
  [[nodiscard]] Octets from_tap(std::size_t number = 0) const {
    Octets frame(70000);
    const ssize_t length = read(taps[number].number(), frame.data(), frame.size());
    if (length < static_cast<ssize_t>(header_size)) return {};
    return {frame.begin() + header_size, frame.begin() + length};
  }

  std::vector<Descriptor> taps;
  TapRings rings;
  Descriptor program;
  Descriptor sender{socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0)};
};

bool has_programs() {
  if (!has_own_network()) return false;
  try {
    const Rig rig;
    return true;
  } catch (const EngineError& error) {
    return cannot_have(std::string("a BPF program at a TAP: ") + error.what());
  }
}

enum class Field : std::uint8_t { none, complete, pseudo };

std::uint16_t checksum_of(const Octets& packet, std::size_t transport, std::uint8_t protocol, Field field) {
  const auto length = static_cast<std::uint32_t>(packet.size() - transport);
  const std::uint64_t pseudo = pseudo_header_sum(packet.data(), protocol, length);
  switch (field) {
    case Field::none: return 0;
    case Field::complete: return finish_sum(add_sum(&packet[transport], length, pseudo));
    case Field::pseudo: return static_cast<std::uint16_t>(~finish_sum(pseudo));
  }
  return 0;
}

// A frame with TCP or UDP that has `size` octets of data.
Octets transport_frame(std::uint8_t protocol, std::uint32_t size, Field field, Header header = {}) {
  const std::size_t header_length = protocol == protocol_tcp ? 20 : 8, at = protocol == protocol_tcp ? 16 : 6;
  Octets segment(header_length + size, 0x5a);
  if (protocol == protocol_tcp) segment[12] = 0x50;
  if (protocol == protocol_udp) store16(&segment[4], static_cast<std::uint16_t>(segment.size()));
  store16(&segment[at], 0);
  header.protocol = protocol;
  Octets packet = ipv4(segment, header);
  const std::size_t transport = 20 + header.options.size();
  store16(&packet[transport + at], checksum_of(packet, transport, protocol, field));
  return frame_around(packet);
}

Octets transport_frame_ipv6(std::uint8_t protocol, std::uint32_t size, Field field) {
  Octets frame = transport_frame(protocol, size, Field::none);
  Octets packet(40);
  packet[0] = 0x60;
  store16(&packet[4], static_cast<std::uint16_t>(frame.size() - 34));
  packet[6] = protocol;
  for (std::size_t octet = 8; octet < 40; ++octet) packet[octet] = static_cast<std::uint8_t>(octet * 37);
  packet.insert(packet.end(), frame.begin() + 34, frame.end());
  store16(&packet[40 + (protocol == protocol_tcp ? 16 : 6)], checksum_of(packet, 40, protocol, field));
  frame = frame_around(packet);
  store16(&frame[12], 0x86dd);
  return frame;
}

// How a frame that was sent went, and whether it came unchanged.
enum class Way : std::uint8_t { lost, changed, complete, incomplete, tap };

// One ring for a whole test.
struct Tester {
  explicit Tester(std::uint32_t mtu = 1500) : rig(1, mtu) {}

  Rig rig;
  SharedRing ring = rig.rings.ring(0);

  Way way(const Octets& frame, const Offload& offload = {}) {
    return way(frame, [this, &offload](const Octets& sent) { rig.send(sent, offload); });
  }
  template <typename Send>
    requires std::invocable<Send, const Octets&>
  Way way(const Octets& frame, Send send) {
    ring.rise(mark);
    send(frame);
    bool is_left = false;
    std::optional<Way> taken;
    while (ring.has()) {
      const SharedRing::Record record = ring.take();
      if (record.state == RingLayout::left) {
        is_left = true;
      } else {
        const bool same = record.length == (queue << 16 | frame.size()) && std::equal(frame.begin(), frame.end(), record.frame);
        taken = !same ? Way::changed : record.state == RingLayout::filled ? Way::complete : Way::incomplete;
      }
      ring.release();
    }
    const Octets by_tap = rig.from_tap();
    if (by_tap.empty()) return taken.value_or(Way::lost);
    if (taken || (is_left && !ring.is_resting())) return Way::changed;
    return by_tap == marked(frame) && ring.is_resting() ? Way::tap : Way::changed;
  }
};

}  // namespace

TEST_CASE(a_tap_ring_takes_tcp_and_udp_whose_checksum_it_knows) {
  if (!has_programs()) return;
  Tester tester;
  const std::size_t transport = 14 + 20;
  for (const std::uint8_t protocol : {protocol_tcp, protocol_udp}) {
    const Offload wanted = Offload::of_checksum(transport, protocol), wanted_ipv6 = Offload::of_checksum(14 + 40, protocol);
    for (const std::uint32_t size : {0U, 1U, 36U, 999U, 1400U}) {
      CHECK(tester.way(transport_frame(protocol, size, Field::complete)) == Way::complete);
      CHECK(tester.way(transport_frame(protocol, size, Field::pseudo), wanted) == Way::incomplete);
      CHECK(tester.way(transport_frame_ipv6(protocol, size, Field::complete)) == Way::complete);
      CHECK(tester.way(transport_frame_ipv6(protocol, size, Field::pseudo), wanted_ipv6) == Way::incomplete);
    }
    // One that looks incomplete and that nobody left to us stays as it is, right or wrong.
    CHECK(tester.way(transport_frame(protocol, 100, Field::pseudo)) == Way::complete);
  }
  CHECK(tester.way(transport_frame(protocol_udp, 100, Field::none)) == Way::complete);
}

// As in a tunnel inside: the kernel leaves the inner checksum to us, and the outer one is complete or there is none.
TEST_CASE(a_checksum_further_inside_goes_to_the_tap) {
  if (!has_programs()) return;
  Tester tester;
  Offload inside = Offload::of_checksum(14 + 20 + 8 + 50, protocol_tcp);
  for (const Field field : {Field::none, Field::complete}) {
    const Octets frame = transport_frame(protocol_udp, 300, field);
    tester.ring.rise(mark);
    tester.rig.send(frame, inside);
    CHECK(tester.ring.has() && tester.ring.take().state == RingLayout::left);
    tester.ring.release();
    CHECK(tester.ring.is_resting());
    CHECK(tester.rig.from_tap() == marked(frame));
  }
}

TEST_CASE(what_a_tap_ring_does_not_take_goes_by_the_tap_and_all_behind_it) {
  if (!has_programs()) return;
  Tester tester;
  const Octets plain = transport_frame(protocol_udp, 100, Field::complete);
  std::vector<Octets> others = {
      transport_frame(protocol_udp, 100, Field::complete, {.fragment = Ipv4::more_fragments}),
      transport_frame(protocol_udp, 100, Field::complete, {.fragment = 8}),
      transport_frame(protocol_udp, 100, Field::complete, {.options = {1, 1, 1, 0}}),
      frame_around(ipv4(Octets(100), {.protocol = 1})),
      frame_around(ipv4(Octets(100), {.protocol = 47})),
  };
  others.push_back(plain);
  store16(&others.back()[12], 0x0806);  // no IP
  others.push_back(transport_frame_ipv6(protocol_udp, 100, Field::complete));
  others.back()[14 + 6] = protocol_hop_by_hop;
  for (const Octets& frame : others) {
    CHECK(tester.way(frame) == Way::tap);
    tester.rig.send(plain);  // the ring rests now
    CHECK(!tester.ring.has());
    CHECK(tester.rig.from_tap() == marked(plain));
  }
  const Octets super = transport_frame(protocol_tcp, 4000, Field::pseudo);
  Offload segments = Offload::of_checksum(14 + 20, protocol_tcp);
  segments.gso_type = Offload::gso_tcp4;
  segments.segment_size = 1000;
  segments.header_length = 54;
  tester.ring.rise(mark);
  tester.rig.send(super, segments);
  CHECK(!tester.ring.has() && tester.ring.is_resting());
  CHECK(tester.rig.from_tap() == marked(super));
}

TEST_CASE(a_frame_that_is_too_long_for_a_tap_ring_goes_by_the_tap) {
  if (!has_programs()) return;
  Tester tester;
  run("ip link set out mtu 4000");
  const std::uint32_t longest = tester.rig.rings.longest_frame() - 14 - 28;
  CHECK(tester.way(transport_frame(protocol_udp, longest, Field::complete)) == Way::complete);
  CHECK(tester.way(transport_frame(protocol_udp, longest + 1, Field::complete)) == Way::tap);
}

TEST_CASE(a_tap_ring_takes_frames_that_lie_in_pages) {
  if (!has_programs()) return;
  {
    Tester tester;
    const auto way = [&tester](const Octets& frame) { return tester.way(frame, [](const Octets& sent) { send_in_pages("out", sent); }); };
    for (const std::uint8_t protocol : {protocol_tcp, protocol_udp}) {
      for (const std::uint32_t size : {0U, 1U, 9U, 10U, 36U, 1400U}) {
        CHECK(way(transport_frame(protocol, size, Field::complete)) == Way::complete);
        CHECK(way(transport_frame_ipv6(protocol, size, Field::complete)) == Way::complete);
      }
    }
    CHECK(way(frame_around(ipv4(Octets(100), {.protocol = 1}))) == Way::tap);
    Octets shorter = transport_frame(protocol_tcp, 0, Field::complete);
    shorter.resize(14 + 20 + 17);
    CHECK(way(shorter) == Way::tap);
  }
  Tester large(9000);
  run("ip link set out mtu 9000");
  Offload linear;
  linear.header_length = 14;
  CHECK(large.way(transport_frame(protocol_udp, 8000, Field::complete), linear) == Way::complete);
  CHECK(large.way(transport_frame_ipv6(protocol_tcp, 8000, Field::complete), linear) == Way::complete);
  for (const std::uint16_t in_one_piece : std::to_array<std::uint16_t>({34, 42, 51, 54})) {
    linear.header_length = in_one_piece;
    CHECK(large.way(transport_frame(protocol_tcp, 8000, Field::complete), linear) == Way::complete);
  }
}

// A record says in 16 bits how long it is.
TEST_CASE(a_tap_ring_takes_the_longest_packets_there_are) {
  if (!has_programs()) return;
  Tester tester(65535);
  run("ip link set out mtu 65521");
  CHECK_EQUAL(tester.rig.rings.longest_frame(), 65535U);
  CHECK(tester.way(transport_frame(protocol_udp, 65535 - 14 - 28, Field::complete)) == Way::complete);
}

TEST_CASE(a_full_tap_ring_counts_what_it_loses_and_goes_on) {
  if (!has_programs()) return;
  Tester tester;
  const Octets frame = transport_frame(protocol_udp, 1400, Field::complete);
  tester.ring.rise(mark);
  std::uint64_t sent = 0;
  while (tester.rig.rings.overruns() < 10 && sent < 100000) {
    tester.rig.send(frame);
    ++sent;
  }
  std::uint64_t came = 0;
  for (; tester.ring.has(); ++came) CHECK(std::equal(frame.begin(), frame.end(), tester.ring.take().frame));
  tester.ring.release();
  CHECK(came >= 1024);
  CHECK_EQUAL(came + tester.rig.rings.overruns(), sent);
  for (const std::uint32_t size : {0U, 1400U, 3U}) CHECK(tester.way(transport_frame(protocol_udp, size, Field::complete)) == Way::complete);
}

// Records of all sizes come round several times, whole and in order.
TEST_CASE(records_of_a_tap_ring_go_round) {
  if (!has_programs()) return;
  Tester tester;
  tester.ring.rise(mark);
  Random random(23);
  std::uint64_t octets = 0;
  for (int burst = 0; octets < 16U << 20; ++burst) {
    std::vector<Octets> sent;
    for (std::uint32_t frame = 0, count = 1 + random.below(200); frame < count; ++frame) {
      sent.push_back(transport_frame(protocol_udp, random.below(1400), Field::none));
      sent.back()[40] = static_cast<std::uint8_t>(random.below(256));
      tester.rig.send(sent.back());
      octets += sent.back().size();
    }
    for (const Octets& frame : sent) {
      if (!tester.ring.has()) return fail(__FILE__, __LINE__, "a record is missing");
      const SharedRing::Record record = tester.ring.take();
      CHECK(record.length == (queue << 16 | frame.size()) && std::equal(frame.begin(), frame.end(), record.frame));
      if (random.below(3) == 0) tester.ring.release();
    }
    tester.ring.release();
    CHECK(!tester.ring.has());
  }
  CHECK_EQUAL(tester.rig.rings.overruns(), 0U);
}

// The queue that the TAP chooses is that of the worker whose ring the flow has.
TEST_CASE(a_flow_has_one_worker_by_ring_and_by_tap) {
  if (!has_programs()) return;
  constexpr std::size_t workers = 4;
  const Rig rig(workers);
  std::vector<SharedRing> rings;
  for (std::uint32_t worker = 0; worker < workers; ++worker) rings.push_back(rig.rings.ring(worker));
  std::set<std::size_t> used;
  for (std::uint32_t flow = 0; flow < 40; ++flow) {
    const Octets frame = transport_frame(protocol_udp, 60, Field::complete, {.source = 0x0a000001 + flow});
    std::array<std::size_t, 2> seen{workers, workers};
    for (SharedRing& ring : rings) ring.rise(mark);
    rig.send(frame);
    for (std::size_t worker = 0; worker < workers; ++worker) {
      if (!rings[worker].has()) continue;
      static_cast<void>(rings[worker].take());
      rings[worker].release();
      seen[0] = worker;
    }
    for (SharedRing& ring : rings) CHECK(ring.rest());
    rig.send(frame);
    for (std::size_t worker = 0; worker < workers; ++worker) {
      if (!rig.from_tap(worker).empty()) seen[1] = worker;
    }
    CHECK(seen[0] < workers);
    CHECK_EQUAL(seen[0], seen[1]);
    used.insert(seen[0]);
  }
  CHECK(used.size() > 1);
}
