#include "cut.hpp"

#include <optional>
#include <set>

#include "build.hpp"
#include "harness.hpp"
#include "reassembly.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

constexpr std::size_t link_size = 14;
constexpr std::uint8_t needs_checksum = 1, gso_tcp4 = 1, gso_tcp6 = 4, gso_udp = 5;

class Collector : public PacketSink {
 public:
  explicit Collector(std::uint32_t capacity) : capacity_(capacity) {}
  std::uint8_t* open(std::uint32_t length) noexcept override {
    if (length > capacity_) return nullptr;
    current_.assign(length, 0);  // exactly as large as asked, so that a sanitizer sees an overrun
    return current_.data();
  }
  void commit(std::uint32_t length) noexcept override {
    CHECK_EQUAL(length, current_.size());
    packets.push_back(current_);
  }
  std::vector<Octets> packets;

 private:
  std::uint32_t capacity_;
  Octets current_;
};

struct Outcome {
  Reason reason;
  std::vector<Octets> packets;
};

Outcome cut(const Octets& packet, const Offload& offload, std::uint32_t inner_mtu, bool clear_df = false, TooLong too_long = TooLong::fragmented) {
  Octets frame(link_size);
  frame.insert(frame.end(), packet.begin(), packet.end());
  Cutter cutter(100);
  Collector collector(too_long == TooLong::split_later ? static_cast<std::uint32_t>(ipv6_maximum_size) : inner_mtu);
  const CutPacket ip = *CutPacket::parse(frame.data() + link_size, packet.size());
  const Reason reason = cutter.cut(frame.data(), link_size, ip, offload, {inner_mtu, clear_df, too_long}, collector);
  return {reason, collector.packets};
}

Octets tcp(const Octets& data, std::uint8_t flags, const Octets& options = {}) {
  Octets segment(20 + options.size());
  store16(&segment[0], 1025);
  store16(&segment[2], 80);
  store32(&segment[4], 0xfffff000);  // wraps within the super-packet
  store32(&segment[8], 77);
  segment[12] = static_cast<std::uint8_t>((5 + options.size() / 4) << 4);
  segment[13] = flags;
  store16(&segment[14], 501);
  std::copy(options.begin(), options.end(), segment.begin() + 20);
  segment.insert(segment.end(), data.begin(), data.end());
  return segment;
}

Octets udp(const Octets& data) {
  Octets datagram(8);
  store16(&datagram[0], 53);
  store16(&datagram[2], 5353);
  store16(&datagram[4], static_cast<std::uint16_t>(8 + data.size()));
  datagram.insert(datagram.end(), data.begin(), data.end());
  return datagram;
}

// `destination` is another one than that of the header where a route goes on behind it.
std::uint64_t pseudo_sum(const CutPacket& ip, std::optional<Address> destination = {}) {
  Octets header(ip.octets, ip.octets + ip.ip_length);
  const bool is_ipv6 = ip.family == Family::ipv6;
  if (destination) std::copy_n(destination->begin(), is_ipv6 ? 16 : 4, header.begin() + (is_ipv6 ? 24 : 16));
  return pseudo_header_sum(header.data(), ip.protocol, ip.transport_length());
}

bool is_transport_checksum_right(Octets& packet, std::optional<Address> destination = {}) {
  const CutPacket ip = *CutPacket::parse(packet.data(), packet.size());
  return finish_sum(add_sum(ip.transport(), ip.transport_length(), pseudo_sum(ip, destination))) == 0;
}

// As the kernel hands out what needs a checksum.
Octets with_partial_checksum(Octets packet, std::optional<Address> destination = {}) {
  const CutPacket ip = *CutPacket::parse(packet.data(), packet.size());
  store16(ip.transport() + (ip.protocol == protocol_tcp ? 16 : 6), static_cast<std::uint16_t>(~finish_sum(pseudo_sum(ip, destination))));
  return packet;
}

}  // namespace

TEST_CASE(a_tcp_super_packet_becomes_segments_that_say_the_same) {
  Random random(9);
  for (const std::uint32_t inner_mtu : {576U, 1300U, 1438U, 1500U, 9000U}) {
    for (const std::size_t size : {1U, 1400U, 1448U, 1449U, 30000U, 65400U}) {
      const Octets options(12, 1);
      const Octets data = random.octets(size);
      const Octets super = ipv4(tcp(data, 0x99, options), {.tos = 0xb8, .protocol = protocol_tcp, .identification = 65530, .fragment = Ipv4::dont_fragment});
      Outcome outcome = cut(super, {.flags = needs_checksum, .gso_type = gso_tcp4, .segment_size = 1448}, inner_mtu);
      CHECK(outcome.reason == Reason::delivered);
      Octets joined;
      for (std::size_t index = 0; index < outcome.packets.size(); ++index) {
        Octets& packet = outcome.packets[index];
        CHECK(packet.size() <= inner_mtu && packet.size() <= 1500);
        const Ipv4 ip = *Ipv4::parse(packet.data(), packet.size());
        CHECK(is_checksum_right(packet.data(), 20));
        CHECK(is_transport_checksum_right(packet));
        CHECK_EQUAL(ip.total_length(), packet.size());
        CHECK_EQUAL(ip.tos(), 0xb8);
        CHECK(ip.has_dont_fragment());
        CHECK_EQUAL(ip.identification(), static_cast<std::uint16_t>(65530 + index));
        CHECK_EQUAL(load32(ip.payload() + 4), static_cast<std::uint32_t>(0xfffff000 + joined.size()));
        const bool is_first = index == 0, is_last = index + 1 == outcome.packets.size();
        CHECK_EQUAL(ip.payload()[13], (is_first ? 0x80 : 0) | (is_last ? 0x09 : 0) | 0x10);
        joined.insert(joined.end(), ip.payload() + 32, ip.payload() + ip.payload_length());
      }
      CHECK(joined == data);
    }
  }
}

// RFC 6864 4: without DF the far end needs them to tell what belongs together, and the kernel has counted no more segments than it saw.
TEST_CASE(a_stream_that_is_cut_smaller_repeats_no_identification) {
  for (const std::uint32_t inner_mtu : {256U, 1000U, 1438U, 1500U}) {
    Cutter cutter(100);
    Collector collector(inner_mtu);
    std::set<std::uint16_t> seen;
    std::uint16_t next = 30000;
    for (const std::size_t segments : {45U, 1U, 30U, 45U}) {
      Octets frame(link_size);
      const Octets super = ipv4(tcp(Octets(segments * 1448 - 7), 0x10), {.protocol = protocol_tcp, .identification = next});
      frame.insert(frame.end(), super.begin(), super.end());
      const Offload offload{.flags = needs_checksum, .gso_type = gso_tcp4, .segment_size = 1448};
      const CutPacket ip = *CutPacket::parse(frame.data() + link_size, super.size());
      CHECK(cutter.cut(frame.data(), link_size, ip, offload, {inner_mtu, false}, collector) == Reason::delivered);
      next = static_cast<std::uint16_t>(next + segments);
    }
    for (const Octets& packet : collector.packets) seen.insert(load16(&packet[4]));
    CHECK_EQUAL(seen.size(), collector.packets.size());
    CHECK_EQUAL(seen.upper_bound(29999) == seen.end() ? 0 : *seen.upper_bound(29999), 30000);
    CHECK_EQUAL(*seen.rbegin(), next - 1);
  }
}

TEST_CASE(a_udp_super_packet_becomes_datagrams_of_its_own_size) {
  Random random(10);
  for (const std::size_t size : {1U, 999U, 1000U, 1001U, 5500U, 60000U}) {
    const Octets data = random.octets(size);
    Outcome outcome = cut(ipv4(udp(data), {.protocol = protocol_udp}), {.flags = needs_checksum, .gso_type = gso_udp, .segment_size = 1000}, 1438);
    CHECK(outcome.reason == Reason::delivered);
    CHECK_EQUAL(outcome.packets.size(), (size + 999) / 1000);
    Octets joined;
    for (Octets& packet : outcome.packets) {
      const Ipv4 ip = *Ipv4::parse(packet.data(), packet.size());
      CHECK(is_checksum_right(packet.data(), 20));
      CHECK(is_transport_checksum_right(packet));
      CHECK_EQUAL(load16(ip.payload() + 4), ip.payload_length());
      joined.insert(joined.end(), ip.payload() + 8, ip.payload() + ip.payload_length());
    }
    CHECK(joined == data);
  }
}

TEST_CASE(ipv6_super_packets_become_packets_that_say_the_same) {
  Random random(19);
  const Octets hop_by_hop = {protocol_tcp, 0, 1, 4, 0, 0, 0, 0};
  for (const std::size_t size : {1U, 1300U, 1301U, 30000U, 65000U}) {
    const Octets data = random.octets(size);
    for (const bool has_options : {false, true}) {
      Octets segment = tcp(data, 0x99);
      if (has_options) segment.insert(segment.begin(), hop_by_hop.begin(), hop_by_hop.end());
      const Octets super = with_partial_checksum(
          ipv6(segment, {.traffic_class = 0xb8, .next_header = has_options ? protocol_hop_by_hop : protocol_tcp, .flow_label = 0xfedcb}));
      Outcome outcome = cut(super, {.flags = needs_checksum, .gso_type = gso_tcp6, .segment_size = 1400}, 1368);
      CHECK(outcome.reason == Reason::delivered);
      const std::size_t headers = has_options ? 68 : 60;
      Octets joined;
      for (Octets& packet : outcome.packets) {
        CHECK(packet.size() <= 1368);
        CHECK(std::equal(packet.begin(), packet.begin() + 4, super.begin()) && std::equal(packet.begin() + 6, packet.begin() + 40, super.begin() + 6));
        CHECK_EQUAL(load16(&packet[4]), packet.size() - 40);
        CHECK(is_transport_checksum_right(packet));
        CHECK_EQUAL(load32(&packet[headers - 16]), static_cast<std::uint32_t>(0xfffff000 + joined.size()));
        joined.insert(joined.end(), packet.begin() + static_cast<long>(headers), packet.end());
      }
      CHECK(joined == data);
    }
    Outcome outcome = cut(ipv6(udp(data), {.next_header = protocol_udp}), {.flags = needs_checksum, .gso_type = gso_udp, .segment_size = 1300}, 1368);
    CHECK_EQUAL(outcome.packets.size(), (size + 1299) / 1300);
    Octets joined;
    for (Octets& packet : outcome.packets) {
      CHECK(is_transport_checksum_right(packet));
      CHECK_EQUAL(load16(&packet[44]), packet.size() - 40);
      joined.insert(joined.end(), packet.begin() + 48, packet.end());
    }
    CHECK(joined == data);
  }
}

// RFC 8200 8.1, RFC 791 3.1: the checksum is of the last destination, and the header names the next.
TEST_CASE(super_packets_with_a_route_have_checksums_of_its_end) {
  Random random(20);
  const Address last = {192, 0, 2, 77, 5};
  Octets routing(24);
  routing[0] = protocol_tcp;
  routing[1] = 2;
  routing[2] = 253;
  routing[3] = 1;  // segments left
  std::copy(last.begin(), last.end(), routing.begin() + 8);
  const Octets source_route = {0x83, 7, 4, last[0], last[1], last[2], last[3], 1};
  for (const std::size_t size : {1U, 1400U, 1401U, 30001U}) {
    const Octets data = random.octets(size);
    for (const std::uint8_t protocol : {protocol_tcp, protocol_udp}) {
      const Octets transport = protocol == protocol_tcp ? tcp(data, 0x99) : udp(data);
      Octets behind = routing;
      behind[0] = protocol;
      behind.insert(behind.end(), transport.begin(), transport.end());
      const Octets six = ipv6(behind, {.next_header = protocol_routing}), four = ipv4(transport, {.protocol = protocol, .options = source_route});
      for (const Octets& super : {six, four}) {
        const std::uint8_t gso = protocol == protocol_udp ? gso_udp : super[0] >> 4 == 4 ? gso_tcp4 : gso_tcp6;
        Outcome outcome = cut(with_partial_checksum(super, last), {.flags = needs_checksum, .gso_type = gso, .segment_size = 1300}, 1500);
        CHECK_EQUAL(outcome.packets.size(), (size + 1299) / 1300);
        for (Octets& packet : outcome.packets) CHECK(is_transport_checksum_right(packet, last));
      }
    }
  }
}

// RFC 8200 4.5: fragmentation is the source's.
TEST_CASE(ipv6_is_never_fragmented_on_the_way) {
  for (const bool clear_df : {false, true}) {
    CHECK(cut(ipv6(Octets(1400)), {}, 1439, clear_df).reason == Reason::too_big);
    CHECK(cut(ipv6(Octets(1400)), {}, 1440, clear_df).packets.at(0) == ipv6(Octets(1400)));
    const Octets super = ipv6(udp(Octets(6000)), {.next_header = protocol_udp});
    CHECK(cut(super, {.gso_type = gso_udp, .segment_size = 1400}, 1400, clear_df).reason == Reason::too_big);
  }
  Octets fragment = {protocol_udp, 0, 0, 1, 0, 0, 0, 9};
  const Octets datagram = udp(Octets(100));
  fragment.insert(fragment.end(), datagram.begin(), datagram.end());
  const Octets packet = ipv6(fragment, {.next_header = protocol_fragment});
  CHECK(cut(packet, {}, 1400).packets.at(0) == packet);
  CHECK(cut(packet, {.gso_type = gso_udp, .segment_size = 50}, 1400).reason == Reason::malformed);
}

// RFC 8200 5: no source has to send packets of less than 1280 octets, so these are fragmented behind their encryption.
TEST_CASE(ipv6_packets_that_every_link_carries_are_passed_on_to_be_split_later) {
  for (const std::uint32_t inner_mtu : {300U, 1279U}) {
    const auto cut_later = [inner_mtu](const Octets& packet, const Offload& offload = {}) { return cut(packet, offload, inner_mtu, false, TooLong::split_later); };
    for (const std::size_t size : {1U, 1240U}) CHECK(cut_later(ipv6(Octets(size))).packets.at(0) == ipv6(Octets(size)));
    CHECK(cut_later(ipv6(Octets(1241))).reason == Reason::too_big);
    CHECK(cut(ipv6(Octets(1240)), {}, inner_mtu).reason == Reason::too_big);
    CHECK(cut(ipv6(Octets(1240)), {}, inner_mtu, false, TooLong::refused).reason == Reason::too_big);
    const Octets super = ipv6(udp(Octets(3 * 1232 + 5)), {.next_header = protocol_udp});
    Outcome outcome = cut_later(super, {.flags = needs_checksum, .gso_type = gso_udp, .segment_size = 1232});
    CHECK_EQUAL(outcome.packets.size(), 4U);
    for (Octets& packet : outcome.packets) {
      CHECK(packet.size() == 1280 || &packet == &outcome.packets.back());
      CHECK(is_transport_checksum_right(packet));
    }
    CHECK(cut_later(super, {.flags = needs_checksum, .gso_type = gso_udp, .segment_size = 1233}).reason == Reason::too_big);
    const Octets stream = ipv6(tcp(Octets(5000), 0x10), {.next_header = protocol_tcp});
    for (const Octets& packet : cut_later(stream, {.flags = needs_checksum, .gso_type = gso_tcp6, .segment_size = 1220}).packets) {
      CHECK(packet.size() <= inner_mtu);  // a stream fits wherever it is cut
    }
  }
}

TEST_CASE(what_may_not_become_fragments_is_refused_whatever_its_df_says) {
  for (const bool has_df : {false, true}) {
    const Octets packet = ipv4(Octets(1480), {.fragment = has_df ? Ipv4::dont_fragment : std::uint16_t{0}});
    CHECK(cut(packet, {}, 1438, false, TooLong::refused).reason == Reason::too_big);
    CHECK(cut(packet, {}, 1500, false, TooLong::refused).packets.at(0) == packet);
    CHECK_EQUAL(cut(packet, {}, 1438, false, TooLong::split_later).packets.size(), has_df ? 0U : 1U);
  }
}

TEST_CASE(a_request_of_the_other_family_is_refused) {
  CHECK(cut(ipv6(tcp(Octets(100), 0x10), {.next_header = protocol_tcp}), {.gso_type = gso_tcp4, .segment_size = 50}, 1400).reason == Reason::malformed);
  CHECK(cut(ipv4(tcp(Octets(100), 0x10), {.protocol = protocol_tcp}), {.gso_type = gso_tcp6, .segment_size = 50}, 1400).reason == Reason::malformed);
}

TEST_CASE(fragments_go_back_together) {
  Random random(11);
  for (const bool has_df : {false, true}) {
    for (const std::uint32_t inner_mtu : {256U, 577U, 1438U}) {
      for (std::uint32_t size = inner_mtu - 19; size < 9000; size += 1 + random.below(300)) {
        const Octets payload = random.octets(size);
        const Octets packet = ipv4(payload, {.identification = 7, .fragment = has_df ? Ipv4::dont_fragment : std::uint16_t{0}});
        Outcome outcome = cut(packet, {}, inner_mtu, true);
        CHECK(outcome.reason == Reason::delivered);
        CHECK(outcome.packets.size() >= 2);
        Reassembler reassembler;
        std::size_t smallest = 65535, largest = 0;
        for (Octets& part : outcome.packets) {
          CHECK(part.size() <= inner_mtu);
          CHECK(!Ipv4::parse(part.data(), part.size())->has_dont_fragment());
          if (&part != &outcome.packets.back()) smallest = std::min(smallest, part.size());
          largest = std::max(largest, part.size());
          const Reassembled result = reassembler.add(*Ipv4::parse(part.data(), part.size()), 0);
          CHECK_EQUAL(result.lost, 0U);
          if (&part == &outcome.packets.back()) CHECK(*result.datagram == ipv4(payload, {.identification = has_df ? std::uint16_t{100} : std::uint16_t{7}}));
        }
        CHECK_EQUAL(smallest, largest);
      }
    }
  }
}

TEST_CASE(a_fragment_is_fragmented_in_its_place) {
  const Octets payload(1480, 3);
  Outcome outcome = cut(ipv4(payload, {.fragment = Ipv4::more_fragments | 185}), {}, 1438);
  CHECK_EQUAL(outcome.packets.size(), 2U);
  CHECK_EQUAL(load16(&outcome.packets[0][6]), Ipv4::more_fragments | 185);
  CHECK_EQUAL(load16(&outcome.packets[1][6]), Ipv4::more_fragments | (185 + 744 / 8));
}

// RFC 6864 4.1: only where a packet is not part of another one does its identification not matter.
TEST_CASE(df_that_is_cleared_leaves_fragments_the_identification_that_they_share) {
  Random random(14);
  const Octets payload = random.octets(3160);
  Reassembler reassembler;
  std::unique_ptr<Octets> whole;
  for (std::size_t at = 0; at < payload.size(); at += 1480) {
    const std::size_t end = std::min(at + 1480, payload.size());
    const auto field = static_cast<std::uint16_t>(Ipv4::dont_fragment | at / 8 | (end < payload.size() ? Ipv4::more_fragments : 0U));
    const Octets part(payload.begin() + static_cast<long>(at), payload.begin() + static_cast<long>(end));
    for (Octets& cut_again : cut(ipv4(part, {.identification = 7, .fragment = field}), {}, 1438, true).packets) {
      CHECK_EQUAL(load16(&cut_again[4]), 7);
      Reassembled result = reassembler.add(*Ipv4::parse(cut_again.data(), cut_again.size()), 0);
      if (result.datagram) whole = std::move(result.datagram);
    }
  }
  CHECK(whole != nullptr && *whole == ipv4(payload, {.identification = 7}));
}

TEST_CASE(only_copied_options_are_in_later_fragments) {
  const Octets options = {0x94, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0};  // router alert is copied, record route is not
  Outcome outcome = cut(ipv4(Octets(2000), {.options = options}), {}, 1438);
  CHECK_EQUAL(outcome.packets.size(), 2U);
  CHECK(std::equal(options.begin(), options.end(), outcome.packets[0].begin() + 20));
  const Octets later = {0x94, 4, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0};
  CHECK(std::equal(later.begin(), later.end(), outcome.packets[1].begin() + 20));
  CHECK(is_checksum_right(outcome.packets[1].data(), 32));
}

TEST_CASE(df_refuses_unless_it_is_cleared) {
  const Octets packet = ipv4(Octets(1480), {.fragment = Ipv4::dont_fragment});
  CHECK(cut(packet, {}, 1438).reason == Reason::too_big);
  CHECK(cut(packet, {}, 1438).packets.empty());
  CHECK(cut(packet, {}, 1438, true).reason == Reason::delivered);
  CHECK(cut(packet, {}, 1500).packets.at(0) == packet);
  const Octets super = ipv4(udp(Octets(6000)), {.protocol = protocol_udp, .fragment = Ipv4::dont_fragment});
  CHECK(cut(super, {.gso_type = gso_udp, .segment_size = 1472}, 1438).reason == Reason::too_big);
  CHECK_EQUAL(cut(super, {.gso_type = gso_udp, .segment_size = 1472}, 1438, true).packets.size(), 9U);  // 4 × 2, and the rest
}

TEST_CASE(a_partial_checksum_is_completed) {
  Random random(12);
  for (const std::size_t size : {0U, 1U, 2U, 63U, 1000U}) {
    Octets packet = ipv4(udp(random.octets(size)), {.protocol = protocol_udp});
    const std::uint64_t pseudo = pseudo_header_sum(packet.data(), protocol_udp, static_cast<std::uint32_t>(8 + size));
    store16(&packet[26], static_cast<std::uint16_t>(~finish_sum(pseudo)));
    Outcome outcome = cut(packet, {.flags = needs_checksum, .checksum_start = link_size + 20, .checksum_offset = 6}, 1438);
    CHECK(outcome.reason == Reason::delivered);
    CHECK(is_transport_checksum_right(outcome.packets.at(0)));
  }
}

// Of UDP 0 would say that there is no checksum (RFC 768), and that it is UDP inside a tunnel the header outside does not say.
TEST_CASE(a_partial_checksum_is_never_completed_to_0) {
  constexpr std::uint8_t gre = 47;
  constexpr std::uint16_t pseudo = 0x1234;
  constexpr std::size_t start = 20 + 24, size = 10;
  for (const std::uint8_t protocol : {protocol_udp, protocol_tcp, protocol_ipip, gre}) {
    Octets packet = ipv4(Octets(24 + size), {.protocol = protocol});
    store16(&packet[start + 6], pseudo);
    store16(&packet[start + 8], finish_sum(add_sum(&packet[start], size)));  // the sum of all becomes 0
    Outcome outcome = cut(packet, {.flags = needs_checksum, .checksum_start = link_size + start, .checksum_offset = 6}, 1438);
    const std::uint8_t* completed = outcome.packets.at(0).data() + start;
    CHECK_EQUAL(load16(completed + 6), 0xffff);
    CHECK_EQUAL(finish_sum(add_sum(completed, size, __builtin_bswap16(pseudo))), 0);  // which verifies as 0 would
  }
}

TEST_CASE(requests_that_point_outside_are_refused) {
  const Octets packet = ipv4(tcp(Octets(100), 0x10), {.protocol = protocol_tcp});
  const auto length = static_cast<std::uint16_t>(link_size + packet.size());
  for (const Offload& offload : std::vector<Offload>{
           {.flags = needs_checksum, .checksum_start = 0, .checksum_offset = 0},
           {.flags = needs_checksum, .checksum_start = 33, .checksum_offset = 16},
           {.flags = needs_checksum, .checksum_start = length, .checksum_offset = 0},
           {.flags = needs_checksum, .checksum_start = 34, .checksum_offset = static_cast<std::uint16_t>(length - 34 - 1)},
           {.flags = needs_checksum, .checksum_start = 65535, .checksum_offset = 65535},
           {.gso_type = gso_tcp4, .segment_size = 0},
           {.gso_type = gso_udp, .segment_size = 100},
           {.gso_type = 3, .segment_size = 100},
           {.gso_type = 4, .segment_size = 100},
           {.gso_type = 77, .segment_size = 100},
       }) {
    const Outcome outcome = cut(packet, offload, 1438);
    CHECK(outcome.reason == Reason::malformed);
    CHECK(outcome.packets.empty());
  }
}

TEST_CASE(any_frame_with_any_request_gets_an_outcome) {
  Random random(13);
  for (int turn = 0; turn < 40000; ++turn) {
    Octets packet = random.octets(20 + random.below(3000));
    packet[0] = static_cast<std::uint8_t>(0x40 | (5 + random.below(4)));
    store16(&packet[2], static_cast<std::uint16_t>(packet.size()));
    if (random.below(2) == 0) store16(&packet[6], load16(&packet[6]) & (Ipv4::dont_fragment | Ipv4::more_fragments));
    packet[9] = random.below(2) ? protocol_tcp : protocol_udp;
    if (turn % 3 == 0 && packet.size() >= 40) {
      packet[0] = 0x60;
      store16(&packet[4], static_cast<std::uint16_t>(packet.size() - 40));
      packet[6] = static_cast<std::uint8_t>(std::array{protocol_tcp, protocol_udp, protocol_fragment, protocol_hop_by_hop}[random.below(4)]);
    }
    if (!CutPacket::parse(packet.data(), packet.size())) continue;
    const Offload offload{static_cast<std::uint8_t>(random.below(2)), static_cast<std::uint8_t>(random.below(7)), static_cast<std::uint16_t>(random.below(1600)),
                          static_cast<std::uint16_t>(random.below(80)), static_cast<std::uint16_t>(random.below(40))};
    Outcome outcome = cut(packet, offload, 256 + random.below(1400), random.below(2) != 0);
    CHECK(outcome.reason == Reason::delivered || outcome.reason == Reason::malformed || outcome.reason == Reason::too_big || outcome.reason == Reason::oversize);
    CHECK(outcome.reason != Reason::delivered || !outcome.packets.empty());
    const auto offset_of = [](const Octets& octets) { return octets[0] >> 4 == 4 ? load16(&octets[6]) & Ipv4::offset_mask : 0; };
    for (Octets& part : outcome.packets) {
      CHECK(CutPacket::parse(part.data(), part.size()));
      CHECK(offset_of(part) >= offset_of(packet));  // what was behind the transport header must not become one
    }
  }
}
