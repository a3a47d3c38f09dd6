// What is gathered and cut again by the kernel must be what it was; the kernel's part is played by our own Cutter. Then it is split as the
// other side does it.
#include "gather.hpp"

#include <algorithm>

#include "harness.hpp"
#include "outer.hpp"
#include "recut.hpp"
#include "split.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

constexpr std::uint32_t link_size = 14;

Octets in_udp(const Octets& esp, Header header = {.fragment = Ipv4::dont_fragment}, std::uint16_t port = 4500) {
  Octets payload(8);
  store16(&payload[0], port);
  store16(&payload[2], 4500);
  store16(&payload[4], static_cast<std::uint16_t>(8 + esp.size()));
  payload.insert(payload.end(), esp.begin(), esp.end());
  header.protocol = protocol_udp;
  return ipv4(payload, header);
}

Octets in_udp6(const Octets& esp, std::uint8_t hop_limit = 64) {
  Octets packet(ipv6_header_size + 8);
  packet[0] = 0x60;
  store16(&packet[4], static_cast<std::uint16_t>(8 + esp.size()));
  packet[6] = protocol_udp;
  packet[7] = hop_limit;
  packet[23] = 1;
  packet[39] = 2;
  store16(&packet[40], 4500);
  store16(&packet[42], 4500);
  store16(&packet[44], static_cast<std::uint16_t>(8 + esp.size()));
  packet.insert(packet.end(), esp.begin(), esp.end());
  return packet;
}

Octets esp(std::size_t size, std::uint32_t sequence = 1) {
  Octets octets(size, static_cast<std::uint8_t>(sequence));
  store32(&octets[0], 0x1000);
  store32(&octets[4], sequence);
  return octets;
}

struct Super {
  Octets octets;  // without the link header
  Offload offload;
  std::size_t count;
};

std::vector<Super> gather(const std::vector<Octets>& packets, Sa* odd_sa = nullptr, std::size_t odd_link = ~std::size_t{0}) {
  std::vector<Octets> storage;
  for (const Octets& packet : packets) {
    Octets frame(link_size, storage.size() == odd_link ? 2 : 1);
    frame.insert(frame.end(), packet.begin(), packet.end());
    storage.push_back(frame);
  }
  std::vector<Packet> burst(packets.size());
  std::vector<Outgoing> outgoing;
  for (std::size_t index = 0; index < packets.size(); ++index) {
    burst[index].data = storage[index].data() + link_size;
    burst[index].length = static_cast<std::uint32_t>(packets[index].size());
    if (index == 1) burst[index].sa = odd_sa;
    outgoing.push_back({&burst[index], link_size});
  }
  Gatherer gatherer;
  std::vector<Super> result;
  for (const Gathered& gathered : gatherer.gather(outgoing)) {
    Super super{Octets(storage[gathered.first].begin() + link_size, storage[gathered.first].end()), offload_of(gathered, link_size), gathered.count};
    for (std::size_t index = gathered.first + 1U; index < gathered.first + gathered.count; ++index) {
      super.octets.insert(super.octets.end(), storage[index].begin() + link_size + gathered.headers, storage[index].end());
    }
    CHECK_EQUAL(super.octets.size(), gathered.length);
    result.push_back(super);
  }
  return result;
}

std::vector<std::size_t> counts(const std::vector<Super>& supers) {
  std::vector<std::size_t> result;
  for (const Super& super : supers) result.push_back(super.count);
  return result;
}

using Counts = std::vector<std::size_t>;

std::vector<Octets> cut_by_kernel(std::vector<Super> supers) {
  Collector collector;
  Cutter cutter(1);
  for (Super& super : supers) {
    if (super.count == 1) {
      collector.packets.push_back(super.octets);
      continue;
    }
    const auto ip = Ipv4::parse(super.octets.data(), super.octets.size());
    if (!ip || ip->total_length() != super.octets.size() || !is_checksum_right(ip->data(), 20)) return {};
    const std::uint16_t sum = finish_sum(pseudo_header_sum(ip->data(), protocol_udp, ip->payload_length()));
    if (load16(&super.octets[26]) != static_cast<std::uint16_t>(~sum)) return {};
    if (super.offload.flags != Offload::needs_checksum || super.offload.checksum_start != link_size + 20 || super.offload.checksum_offset != 6) return {};
    if (cutter.cut(super.octets.data(), 0, *ip, super.offload, {ipv4_maximum_size, false}, collector) != Reason::delivered) return {};
  }
  return collector.packets;
}

// Without what the kernel may choose: the UDP checksum, and the identification of packets with DF.
Octets essence(Octets packet) {
  store16(&packet[26], 0);
  return without_identification(packet);
}

bool survives_gathering(const std::vector<Octets>& packets) {
  std::vector<Octets> expected, seen;
  for (const Octets& packet : packets) expected.push_back(essence(packet));
  for (const Octets& packet : cut_by_kernel(gather(packets))) seen.push_back(essence(packet));
  return expected == seen;
}

std::vector<Packet> split(Octets& super, std::uint32_t segment_size, Reason& reason) {
  Packet packet;
  packet.data = super.data();
  packet.length = static_cast<std::uint32_t>(super.size());
  std::vector<Packet> result;
  if (reason = parse_outer(packet); reason != Reason::delivered) return result;
  Splitter splitter(packet, segment_size);
  if (reason = splitter.reason(); reason != Reason::delivered) return result;
  while (const std::optional<Packet> segment = splitter.next()) result.push_back(*segment);
  CHECK_EQUAL(result.size(), splitter.count());
  return result;
}

}  // namespace

TEST_CASE(esp_in_udp_in_a_row_becomes_one_frame) {
  std::vector<Octets> packets;
  for (std::uint32_t number = 0; number < 40; ++number) packets.push_back(in_udp(esp(1400, number)));
  packets.push_back(in_udp(esp(100, 40)));
  CHECK(counts(gather(packets)) == Counts{41});
  CHECK(survives_gathering(packets));
  CHECK(counts(gather({in_udp6(esp(60)), in_udp6(esp(60)), in_udp6(esp(52)), in_udp6(esp(52))})) == (Counts{3, 1}));
}

TEST_CASE(a_super_frame_has_bounds) {
  CHECK(counts(gather(std::vector<Octets>(128, in_udp(esp(36))))) == (Counts{64, 64}));
  CHECK(counts(gather(std::vector<Octets>(100, in_udp(esp(1456))))) == (Counts{44, 44, 12}));
  CHECK(counts(gather({in_udp(esp(100)), in_udp(esp(101))})) == (Counts{1, 1}));
  CHECK(counts(gather({in_udp(esp(100)), in_udp(esp(99)), in_udp(esp(99))})) == (Counts{2, 1}));
}

TEST_CASE(each_difference_keeps_frames_apart) {
  const Octets data = esp(100);
  const Octets first = in_udp(data);
  const auto df = Ipv4::dont_fragment;
  for (const Octets& other : std::vector<Octets>{
           in_udp(data, {.tos = 1, .fragment = df}),
           in_udp(data, {.ttl = 63, .fragment = df}),
           in_udp(data, {.fragment = df, .source = 0x0a01010a}),
           in_udp(data, {.fragment = df, .destination = 0x0a02020a}),
           in_udp(data, {.fragment = 0}),
           in_udp(data, {.fragment = df, .options = {1, 1, 1, 1}}),
           in_udp(data, {.fragment = df}, 4501),
           in_udp6(data),
           ipv4(data, {.protocol = protocol_esp, .fragment = df}),
       }) {
    CHECK(counts(gather({first, other})) == (Counts{1, 1}));
    CHECK(counts(gather({other, first})) == (Counts{1, 1}));
  }
  CHECK(counts(gather({in_udp6(data, 64), in_udp6(data, 63)})) == (Counts{1, 1}));
  const Octets multicast = in_udp(data, {.fragment = df, .destination = 0xef010101});
  CHECK(counts(gather({multicast, multicast})) == (Counts{1, 1}));
  Octets multicast6 = in_udp6(data);
  multicast6[24] = 0xff;
  CHECK(counts(gather({multicast6, multicast6})) == (Counts{1, 1}));
  CHECK(counts(gather({first, first, first}, reinterpret_cast<Sa*>(8))) == (Counts{1, 1, 1}));
  CHECK(counts(gather({first, first, first}, nullptr, 2)) == (Counts{2, 1}));
  const auto numbered = [&data](std::uint16_t identification, std::uint16_t field = 0) { return in_udp(data, {.identification = identification, .fragment = field}); };
  CHECK(counts(gather({numbered(0xffff), numbered(0), numbered(1), numbered(1)})) == (Counts{3, 1}));
  CHECK(counts(gather({numbered(5, Ipv4::more_fragments), numbered(6, Ipv4::more_fragments)})) == (Counts{1, 1}));
}

TEST_CASE(frames_left_alone_are_as_they_were) {
  Octets packet = in_udp(esp(100));
  Packet one;
  one.data = packet.data();
  one.length = static_cast<std::uint32_t>(packet.size());
  const std::vector<Outgoing> burst(3, Outgoing{&one, 0});
  Gatherer gatherer;
  for (const Gathered& frame : gatherer.leave(burst)) {
    CHECK_EQUAL(frame.count, 1U);
    CHECK_EQUAL(offload_of(frame, 0).flags, 0);
  }
  CHECK_EQUAL(gatherer.leave(burst).size(), 3U);
  CHECK(packet == in_udp(esp(100)));
}

TEST_CASE(any_burst_of_esp_in_udp_survives_gathering) {
  Random random(51);
  for (int turn = 0; turn < 400; ++turn) {
    std::vector<Octets> packets;
    const std::size_t size = random.below(2) ? 1400 : 64;
    for (std::uint32_t count = 1 + random.below(128), number = 0; number < count; ++number) {
      const std::uint32_t oddity = random.below(30);
      Header header{.identification = static_cast<std::uint16_t>(number), .fragment = turn % 2 ? Ipv4::dont_fragment : std::uint16_t{0}};
      if (oddity == 0) header.ttl = 9;
      if (oddity == 1) header.identification = 77;
      if (oddity == 2) header.tos = 4;
      packets.push_back(in_udp(esp(oddity == 3 ? 8 + random.below(1400) : size, number), header, oddity == 4 ? 4501 : 4500));
    }
    CHECK(survives_gathering(packets));
  }
}

TEST_CASE(a_super_packet_is_split_in_place) {
  std::vector<Octets> packets;
  for (std::uint32_t number = 0; number < 5; ++number) packets.push_back(in_udp(esp(number == 4 ? 50 : 100, number)));
  Octets super = gather(packets).at(0).octets;
  Reason reason;
  const std::vector<Packet> segments = split(super, 100, reason);
  CHECK_EQUAL(segments.size(), 5U);
  for (std::size_t index = 0; index < segments.size(); ++index) {
    const Packet& segment = segments[index];
    CHECK(Octets(segment.data, segment.data + segment.length) == esp(index == 4 ? 50 : 100, static_cast<std::uint32_t>(index)));
    CHECK(segment.outer.family == Family::ipv4 && segment.outer.protocol == protocol_esp);
    CHECK(segment.outer.has_udp);
    CHECK_EQUAL(segment.outer.header_length, index == 0 ? 28 : 0);
    CHECK_EQUAL(segment.headroom, index == 0 ? 28U : 0U);
    CHECK(std::memcmp(segment.outer.source.data(), &super[12], 4) == 0);
  }
}

TEST_CASE(a_segment_can_be_set_apart_as_the_packet_that_it_was) {
  std::vector<Octets> packets4, packets6;
  for (std::uint16_t number = 0; number < 5; ++number) {
    const Octets data = esp(number == 4 ? 50 : 100, number);
    packets4.push_back(in_udp(data, {.identification = static_cast<std::uint16_t>(65534 + number)}));
    packets6.push_back(in_udp6(data));
  }
  for (const std::vector<Octets>& packets : {packets4, packets6}) {
    Octets super = gather(packets).at(0).octets;
    const Octets before = super;
    Packet packet;
    packet.data = super.data();
    packet.length = static_cast<std::uint32_t>(super.size());
    CHECK(parse_outer(packet) == Reason::delivered);
    Splitter splitter(packet, 100);
    for (const Octets& original : packets) {
      Packet segment = *splitter.next();
      const std::unique_ptr<Octets> memory = splitter.set_apart(segment);
      const std::uint32_t header = packet.outer.header_length;
      CHECK_EQUAL(segment.headroom, header);
      CHECK_EQUAL(segment.outer.header_length, header);
      CHECK(segment.data == memory->data() + header && segment.data + segment.length == memory->data() + memory->size());
      Octets octets = *memory;
      const bool is_ipv6 = octets[0] >> 4 == 6;
      const std::size_t udp = header - udp_header_size;
      store16(&octets[is_ipv6 ? 4 : 2], static_cast<std::uint16_t>(is_ipv6 ? octets.size() - ipv6_header_size : octets.size()));
      store16(&octets[udp + 4], static_cast<std::uint16_t>(octets.size() - udp));
      store16(&octets[udp + 6], load16(&original[udp + 6]));
      if (!is_ipv6) write_header_checksum(octets.data());
      CHECK(octets == original);
    }
    CHECK(super == before);
  }
}

TEST_CASE(segments_that_are_no_esp_are_told_apart) {
  Octets marker = esp(100);
  store32(&marker[0], 0);
  Octets super = gather({in_udp(esp(100)), in_udp(marker), in_udp(esp(100)), in_udp({0xff})}).at(0).octets;
  Reason reason;
  const std::vector<Packet> segments = split(super, 100, reason);
  CHECK_EQUAL(segments.size(), 4U);
  CHECK(segments[0].reason == Reason::delivered && segments[1].reason == Reason::non_esp_marker);
  CHECK(segments[2].reason == Reason::delivered && segments[3].reason == Reason::keepalive);
}

TEST_CASE(a_super_packet_without_bounds_is_refused) {
  Octets super = in_udp(esp(1280));
  Reason reason;
  CHECK(split(super, 0, reason).empty() && reason == Reason::malformed);
  CHECK(split(super, 9, reason).empty() && reason == Reason::malformed);
  CHECK_EQUAL(split(super, 10, reason).size(), Splitter::maximum_segments);
  CHECK_EQUAL(split(super, 65535, reason).size(), 1U);
  Octets empty = in_udp({});
  CHECK(split(empty, 10, reason).empty() && reason == Reason::malformed);
}
