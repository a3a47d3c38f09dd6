// What is coalesced and cut again must be what it was. The kernel's cutting is played by our own Cutter, which tests/cut_test.cpp holds to the RFCs.
#include "coalesce.hpp"

#include <algorithm>

#include "harness.hpp"
#include "recut.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

void complete_checksum(Octets& packet) {
  const bool is_ipv6 = packet[0] >> 4 == 6;
  const std::size_t header = is_ipv6 ? 40 : 20;
  const std::uint8_t protocol = packet[is_ipv6 ? 6 : 9];
  const bool is_tcp = protocol == protocol_tcp;
  std::uint8_t* field = &packet[header + (is_tcp ? 16 : 6)];
  const auto length = static_cast<std::uint32_t>(packet.size() - header);
  store16(field, 0);
  const std::uint16_t sum = finish_sum(add_sum(&packet[header], length, pseudo_header_sum(packet.data(), protocol, length)));
  store16(field, sum == 0 && !is_tcp ? std::uint16_t{0xffff} : sum);
}

struct Segment {
  Header header{.protocol = protocol_tcp, .fragment = Ipv4::dont_fragment};
  std::uint16_t port = 1000;
  std::uint32_t sequence = 1, acknowledgement = 77;
  std::uint8_t flags = 0x10;
  std::uint16_t window = 500;
  Octets options = {};
};

Octets tcp(const Octets& data, const Segment& segment = {}) {
  Octets payload(20 + segment.options.size());
  store16(&payload[0], segment.port);
  store16(&payload[2], 5201);
  store32(&payload[4], segment.sequence);
  store32(&payload[8], segment.acknowledgement);
  payload[12] = static_cast<std::uint8_t>((5 + segment.options.size() / 4) << 4);
  payload[13] = segment.flags;
  store16(&payload[14], segment.window);
  std::copy(segment.options.begin(), segment.options.end(), payload.begin() + 20);
  payload.insert(payload.end(), data.begin(), data.end());
  Octets packet = ipv4(payload, segment.header);
  complete_checksum(packet);
  return packet;
}

Octets udp(const Octets& data, Header header = {.fragment = Ipv4::dont_fragment}, std::uint16_t port = 1000) {
  Octets payload(8);
  store16(&payload[0], port);
  store16(&payload[2], 7000);
  store16(&payload[4], static_cast<std::uint16_t>(8 + data.size()));
  payload.insert(payload.end(), data.begin(), data.end());
  header.protocol = protocol_udp;
  Octets packet = ipv4(payload, header);
  complete_checksum(packet);
  return packet;
}

// The same segment or datagram in IPv6.
Octets in_ipv6(const Octets& packet, Ipv6Header header = {}) {
  header.next_header = packet[9];
  Octets result = ipv6(Octets(packet.begin() + 20, packet.end()), header);
  complete_checksum(result);
  return result;
}

std::vector<std::size_t> counts(const std::vector<Frame>& frames) {
  std::vector<std::size_t> result;
  for (const Frame& frame : frames) {
    const bool is_ipv6 = frame.octets[0] >> 4 == 6;
    const std::size_t ip = is_ipv6 ? 40 : 20;
    const std::size_t headers = ip + (frame.octets[is_ipv6 ? 6 : 9] == protocol_udp ? 8U : (frame.octets[ip + 12] >> 4) * 4U);
    const std::size_t size = frame.offload.segment_size;
    result.push_back(size == 0 ? 1 : (frame.octets.size() - headers + size - 1) / size);
  }
  return result;
}

using Counts = std::vector<std::size_t>;

}  // namespace

TEST_CASE(segments_in_a_row_become_one) {
  std::vector<Octets> packets;
  for (std::uint32_t number = 0; number < 40; ++number) packets.push_back(tcp(Octets(1000, 7), {.sequence = 1 + 1000 * number}));
  packets.push_back(tcp(Octets(10, 8), {.sequence = 40001, .flags = 0x18}));
  const std::vector<Frame> frames = couple(packets);
  CHECK(counts(frames) == Counts{41});
  CHECK_EQUAL(frames[0].octets[33], 0x18);
  CHECK(flows(cut_again(frames)) == flows(packets));
  CHECK(counts(couple({udp(Octets(100)), udp(Octets(100)), udp(Octets(99)), udp(Octets(99))})) == (Counts{3, 1}));
  CHECK(counts(couple({udp(Octets(100)), udp(Octets(100))}, false)) == (Counts{1, 1}));
}

TEST_CASE(ipv6_in_a_row_becomes_one) {
  std::vector<Octets> packets;
  for (std::uint32_t number = 0; number < 30; ++number) packets.push_back(in_ipv6(tcp(Octets(1000, 7), {.sequence = 1 + 1000 * number}), {.flow_label = 5}));
  const std::vector<Frame> frames = couple(packets);
  CHECK(counts(frames) == Counts{30});
  CHECK_EQUAL(frames[0].offload.gso_type, Offload::gso_tcp6);
  CHECK(flows(cut_again(frames)) == flows(packets));
  const Octets datagram = udp(Octets(100));
  const Octets first = in_ipv6(datagram);
  CHECK(counts(couple({first, first, in_ipv6(udp(Octets(9)))})) == Counts{3});
  const std::vector<Ipv6Header> different = {{.traffic_class = 1}, {.hop_limit = 63}, {.flow_label = 1}, {.source = 3}, {.destination = 3}};
  for (const Ipv6Header& header : different) CHECK(counts(couple({first, in_ipv6(datagram, header)})) == (Counts{1, 1}));
  CHECK(counts(couple({first, datagram, first, datagram})) == (Counts{2, 2}));  // families beside each other
  Octets multicast = ipv6(Octets(datagram.begin() + 20, datagram.end()), {.next_header = protocol_udp});
  multicast[24] = 0xff;
  complete_checksum(multicast);
  CHECK_EQUAL(couple({multicast, multicast}).size(), 2U);
  Octets with_options = {protocol_udp, 0, 1, 4, 0, 0, 0, 0};
  with_options.insert(with_options.end(), datagram.begin() + 20, datagram.end());
  with_options = ipv6(with_options, {.next_header = protocol_hop_by_hop});
  CHECK_EQUAL(couple({with_options, with_options}).size(), 2U);
  CHECK(counts(couple({first, with_options, first})).size() == 3);  // and nothing overtakes it
  Octets damaged = first;
  damaged[70] ^= 1;
  CHECK_EQUAL(couple({first, damaged}).size(), 2U);
}

TEST_CASE(a_super_packet_has_bounds) {
  std::vector<Octets> small(128, udp(Octets(10)));
  CHECK(counts(couple(small)) == (Counts{64, 64}));
  std::vector<Octets> large(100, udp(Octets(1400)));
  CHECK(counts(couple(large)) == (Counts{46, 46, 8}));
}

TEST_CASE(each_difference_keeps_packets_apart) {
  const Octets data(100, 1);
  const Octets first = tcp(data);
  CHECK(counts(couple({first, tcp(data, {.sequence = 101})})) == Counts{2});
  std::vector<Segment> different(12, Segment{.sequence = 101});
  different[0].sequence = 102;
  different[1].sequence = 1;
  different[2].acknowledgement = 78;
  different[3].window = 501;
  different[4].flags = 0x11;
  different[5].flags = 0x30;
  different[6].options = {1, 1, 1, 1};
  different[7].header.tos = 4;
  different[8].header.ttl = 63;
  different[9].header.fragment = 0;
  different[10].port = 1001;
  different[11].flags = 0x50;
  for (const Segment& segment : different) CHECK(counts(couple({first, tcp(data, segment)})) == (Counts{1, 1}));
  CHECK(counts(couple({tcp(data, {.flags = 0x18}), tcp(data, {.sequence = 101})})) == (Counts{1, 1}));  // PSH ends it
  CHECK(counts(couple({first, tcp(Octets(101), {.sequence = 101})})) == (Counts{1, 1}));               // longer than the first

  const auto with = [](std::uint16_t identification, std::uint16_t field = 0) { return Header{.identification = identification, .fragment = field}; };
  CHECK(counts(couple({udp(data, with(0xffff)), udp(data, with(0))})) == Counts{2});
  CHECK(counts(couple({udp(data, with(5)), udp(data, with(5))})) == (Counts{1, 1}));
  CHECK(counts(couple({udp(data, with(5, Ipv4::more_fragments)), udp(data, with(6, Ipv4::more_fragments))})) == (Counts{1, 1}));
  const Header multicast{.fragment = Ipv4::dont_fragment, .destination = 0xe0000001};
  CHECK(counts(couple({udp(data, multicast), udp(data, multicast)})) == (Counts{1, 1}));
  const Header options{.fragment = Ipv4::dont_fragment, .options = {1, 1, 1, 1}};
  CHECK_EQUAL(couple({udp(data, options), udp(data, options)}).size(), 2U);
}

TEST_CASE(what_is_damaged_or_has_no_checksum_stays_as_it_is) {
  const Octets data(100, 1);
  for (const std::size_t at : {10U, 30U, 60U, 127U}) {
    for (const std::size_t which : {0U, 1U}) {
      std::vector<Octets> packets = {udp(data), udp(data), udp(data)};
      packets[which][at] ^= 0x40;
      const std::vector<Frame> frames = couple(packets);
      CHECK(frames.size() > 1);
      CHECK(flows(cut_again(frames)) == flows(packets));
    }
  }
  Octets without = udp(data);
  store16(&without[26], 0);
  CHECK_EQUAL(couple({without, without}).size(), 2U);
}

TEST_CASE(nothing_of_a_flow_is_overtaken) {
  const Octets data(100, 1);
  const Octets fragment = ipv4(Octets(64), {.protocol = protocol_udp, .fragment = 5});
  CHECK(counts(couple({udp(data), udp(data), fragment, udp(data)})) == (Counts{2, 1, 1}));
  const Octets empty_ack = tcp({}, {.sequence = 101});
  CHECK(counts(couple({tcp(data), empty_ack, tcp(data, {.sequence = 101})})) == (Counts{1, 1, 1}));
  CHECK(counts(couple({udp(data), udp(data, {.fragment = Ipv4::dont_fragment}, 2000), udp(data)})) == (Counts{2, 1}));
}

TEST_CASE(of_many_flows_the_newest_are_coupled) {
  const auto by_turns = [](std::uint16_t flows) {
    std::vector<Octets> packets;
    for (std::uint8_t turn = 0; turn < 7; ++turn) {
      for (std::uint16_t flow = 0; flow < flows; ++flow) packets.push_back(udp(Octets(100, turn), {.fragment = Ipv4::dont_fragment}, flow));
    }
    return packets;
  };
  constexpr std::uint16_t most = Coalescer::most_open;
  CHECK(counts(couple(by_turns(most))) == Counts(most, 7));
  CHECK(counts(couple(by_turns(most + 1))) == Counts(7 * (most + 1), 1));
  std::vector<Octets> packets = by_turns(most + 1);
  const Octets fragment = ipv4(Octets(64), {.protocol = protocol_udp, .fragment = 5});
  packets.insert(packets.begin() + 3, fragment);
  packets.insert(packets.begin() + 2 * most, fragment);
  CHECK(comes_out_as_it_was(packets));
}

TEST_CASE(any_burst_comes_out_as_it_was) {
  Random random(41);
  for (int turn = 0; turn < 600; ++turn) {
    std::vector<std::uint32_t> sequences(6, 0xfffff000);
    std::vector<Octets> packets;
    const std::size_t size = random.below(4) == 0 ? 10 : 600;
    for (std::uint32_t count = 1 + random.below(Coalescer::maximum_burst); count != 0; --count) {
      const std::uint32_t flow = random.below(random.below(2) ? 6 : 2);
      const std::uint32_t oddity = random.below(40);
      const Octets data = random.octets(oddity == 0 ? random.below(700) : size);
      Header header{.fragment = flow % 3 ? Ipv4::dont_fragment : std::uint16_t{0}};
      header.identification = static_cast<std::uint16_t>(packets.size());
      if (oddity == 1) header.ttl = 3;
      if (oddity == 2) header.fragment = static_cast<std::uint16_t>(random.below(3));
      if (flow < 3) {
        header.protocol = protocol_tcp;
        Segment segment{.header = header, .port = static_cast<std::uint16_t>(flow), .sequence = sequences[flow]};
        segment.options = Octets(flow % 2 ? 12 : 0, 1);
        if (oddity == 3) segment.flags = static_cast<std::uint8_t>(random.below(256));
        if (oddity == 4) segment.flags = 0x18;
        if (oddity == 5) segment.acknowledgement = random.below(3);
        packets.push_back(tcp(data, segment));
        if (oddity != 6) sequences[flow] += static_cast<std::uint32_t>(data.size());
      } else {
        packets.push_back(udp(data, header, static_cast<std::uint16_t>(flow)));
      }
      if (flow % 2 == 0 && oddity != 2 && (packets.back()[6] & 0x3f) == 0) {
        packets.back() = in_ipv6(packets.back(), {.traffic_class = header.tos, .hop_limit = header.ttl});
      }
      if (oddity == 7) packets.back()[random.below(static_cast<std::uint32_t>(packets.back().size() - 20)) + 20] ^= 1;
    }
    CHECK(comes_out_as_it_was(packets));
  }
}

TEST_CASE(packets_with_a_reason_are_left_out) {
  std::vector<Octets> packets = {udp(Octets(10)), udp(Octets(10)), udp(Octets(10))};
  std::vector<Packet> burst(3);
  for (std::size_t index = 0; index < 3; ++index) {
    burst[index].data = packets[index].data();
    burst[index].length = static_cast<std::uint32_t>(packets[index].size());
  }
  burst[1].reason = Reason::replayed;
  burst[1].data = nullptr;
  Coalescer coalescer(true);
  const auto supers = coalescer.couple(burst);
  CHECK_EQUAL(supers.size(), 1U);
  CHECK_EQUAL(supers[0].count, 2U);
  CHECK_EQUAL(coalescer.next(0), 2U);
}
