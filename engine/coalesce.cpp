#include "coalesce.hpp"

#include <algorithm>
#include <cstring>

#include "checksum.hpp"

namespace groupvpn {
namespace {

constexpr std::uint8_t tcp_push = 0x08, tcp_ack = 0x10;

std::uint16_t checksum_offset_of(std::uint8_t protocol) noexcept { return protocol == protocol_tcp ? tcp_at::checksum : udp_at::checksum; }

bool is_ipv6(const std::uint8_t* ip) noexcept { return family_of(*ip) == Family::ipv6; }

// Octets of the IP header of a packet that may be part of a super-packet: it has no options and no extension headers.
std::uint32_t ip_header_of(const std::uint8_t* ip) noexcept { return static_cast<std::uint32_t>(is_ipv6(ip) ? ipv6_header_size : ipv4_header_size); }

std::uint8_t protocol_of(const std::uint8_t* ip) noexcept { return is_ipv6(ip) ? ip[ipv6_at::next_header] : ip[ipv4_at::protocol]; }

bool has_plain_header(const Packet& packet) noexcept {
  if (packet.length != 0 && is_ipv6(packet.data)) {
    const std::optional<Ipv6> ip = Ipv6::parse(packet.data, packet.length);
    return ip && ip->total_length() == packet.length && !ip->is_multicast();
  }
  const std::optional<Ipv4> ip = Ipv4::parse(packet.data, packet.length);
  return ip && ip->header_length() == ipv4_header_size && ip->total_length() == packet.length && !ip->is_fragment() &&
         !is_multicast(ip->destination()) && ip->destination() != 0xffffffff;
}

// Octets of the headers of a packet that may be part of a super-packet, else 0.
std::uint32_t headers_of(const Packet& packet, bool with_udp) noexcept {
  if (!has_plain_header(packet)) return 0;
  const std::uint32_t ip_size = ip_header_of(packet.data);
  const std::uint8_t protocol = protocol_of(packet.data);
  const std::uint8_t* transport = packet.data + ip_size;
  const std::uint32_t length = packet.length - ip_size;
  if (protocol == protocol_tcp && length > tcp_header_size) {
    const std::uint32_t header = (transport[tcp_at::data_offset] >> 4) * 4U;
    const bool has_plain_flags = (transport[tcp_at::flags] & ~tcp_push) == tcp_ack;
    return header >= tcp_header_size && header < length && has_plain_flags ? ip_size + header : 0;
  }
  if (with_udp && protocol == protocol_udp && length > udp_header_size) {
    const bool has_checksum = load16(transport + udp_at::checksum) != 0;
    return load16(transport + udp_at::length) == length && has_checksum ? ip_size + static_cast<std::uint32_t>(udp_header_size) : 0;
  }
  return 0;
}

bool has_right_checksums(const Packet& packet) noexcept {
  const std::uint8_t* ip = packet.data;
  const std::uint32_t ip_size = ip_header_of(ip), length = packet.length - ip_size;
  return (is_ipv6(ip) || is_checksum_right(ip, ipv4_header_size)) &&
         finish_sum(add_sum(ip + ip_size, length, pseudo_header_sum(ip, protocol_of(ip), length))) == 0;
}

// Of two packets with whole IP headers.
bool have_same_addresses(const std::uint8_t* left, const std::uint8_t* right) noexcept {
  if (is_ipv6(left) != is_ipv6(right)) return false;
  return is_ipv6(left) ? std::memcmp(left + ipv6_at::source, right + ipv6_at::source, 32) == 0
                       : std::memcmp(left + ipv4_at::source, right + ipv4_at::source, 8) == 0;
}

// Both have plain headers, and ports behind them.
bool are_one_flow(const std::uint8_t* left, const std::uint8_t* right) noexcept {
  if (*left >> 4 != *right >> 4 || protocol_of(left) != protocol_of(right)) return false;
  return is_ipv6(left) ? std::memcmp(left + ipv6_at::source, right + ipv6_at::source, 36) == 0
                       : std::memcmp(left + ipv4_at::source, right + ipv4_at::source, 12) == 0;
}

// Whether the IP header of a packet is what that of the segment number `count` behind `first` would be.
bool continues_header(const std::uint8_t* first, const std::uint8_t* next, std::uint16_t count) noexcept {
  if (is_ipv6(first)) {  // traffic class and flow label are in the first word
    return std::memcmp(first, next, 4) == 0 && first[ipv6_at::hop_limit] == next[ipv6_at::hop_limit];
  }
  if (first[ipv4_at::tos] != next[ipv4_at::tos]) return false;
  if (std::memcmp(first + ipv4_at::fragment, next + ipv4_at::fragment, 3) != 0) return false;  // and TTL
  const bool has_dont_fragment = (load16(first + ipv4_at::fragment) & Ipv4::dont_fragment) != 0;
  const auto expected = static_cast<std::uint16_t>(load16(first + ipv4_at::identification) + count);
  return has_dont_fragment || load16(next + ipv4_at::identification) == expected;
}

// Whether `packet` continues `super`, whose first packet is `first`; both are of one flow.
bool continues(const SuperPacket& super, const Packet& first, const Packet& packet, std::uint32_t headers) noexcept {
  const std::uint8_t* a = first.data;
  const std::uint8_t* b = packet.data;
  const std::uint32_t payload_length = packet.length - headers;
  if (headers != super.headers || payload_length > super.segment_size || super.length + payload_length > ipv4_maximum_size) return false;
  if (!continues_header(a, b, super.count)) return false;
  if (protocol_of(a) == protocol_udp) return true;
  const std::uint32_t ip_size = ip_header_of(a);
  const std::uint8_t* s = a + ip_size;
  const std::uint8_t* t = b + ip_size;
  const std::uint32_t sequence = load32(s + tcp_at::sequence) + (super.length - super.headers);
  return load32(t + tcp_at::sequence) == sequence &&
         std::memcmp(s + tcp_at::acknowledgement, t + tcp_at::acknowledgement, 5) == 0 &&  // and data offset, with the bits behind it
         std::memcmp(s + tcp_at::window, t + tcp_at::window, 2) == 0 &&
         std::memcmp(s + tcp_at::urgent, t + tcp_at::urgent, headers - ip_size - tcp_at::urgent) == 0;  // and options
}

bool ends_with(const Packet& packet) noexcept {
  return protocol_of(packet.data) == protocol_tcp && (packet.data[ip_header_of(packet.data) + tcp_at::flags] & tcp_push) != 0;
}

// Lets the headers of the first packet speak for all. The checksum field gets what the kernel wants to find there: the sum of the pseudo header.
void write_headers(const SuperPacket& super, const Packet& first, const Packet& last) noexcept {
  std::uint8_t* ip = first.data;
  const std::uint32_t ip_size = ip_header_of(ip), length = super.length - ip_size;
  const std::uint8_t protocol = protocol_of(ip);
  std::uint8_t* transport = ip + ip_size;
  if (ends_with(last)) transport[tcp_at::flags] |= tcp_push;
  if (protocol == protocol_udp) store16(transport + udp_at::length, static_cast<std::uint16_t>(length));
  set_total_length(ip, super.length);
  const std::uint16_t complement = finish_sum(pseudo_header_sum(ip, protocol, length));
  store16(transport + checksum_offset_of(protocol), static_cast<std::uint16_t>(~complement));
}

}  // namespace

std::span<const SuperPacket> Coalescer::couple(std::span<Packet> burst) noexcept {
  count_ = 0;
  for (std::uint16_t index = 0; index < burst.size(); ++index) {
    if (burst[index].reason == Reason::delivered) add(burst, index);
  }
  const std::span<const SuperPacket> supers = std::span(supers_).first(count_);
  for (const SuperPacket& super : supers) {
    if (super.count > 1) write_headers(super, burst[super.first], burst[super.last]);
  }
  return supers;
}

// The packet joins the super-packet of its flow, or ends it and begins another one. What has no ports ends all between its addresses, and
// what has no addresses ends all.
void Coalescer::add(std::span<Packet> burst, std::uint16_t index) noexcept {
  Packet& packet = burst[index];
  const std::uint32_t headers = headers_of(packet, with_udp_);
  const bool has_addresses = packet.length >= ipv4_header_size && packet.length >= ip_header_of(packet.data);
  for (SuperPacket& super : std::span(supers_).first(count_).last(std::min(count_, most_open))) {
    if (!super.is_open) continue;
    Packet& first = burst[super.first];
    if (headers == 0) {
      if (!has_addresses || have_same_addresses(first.data, packet.data)) super.is_open = false;
      continue;
    }
    if (!are_one_flow(first.data, packet.data)) continue;
    super.is_open = first.sa == packet.sa && continues(super, first, packet, headers) && has_right_checksums(packet) &&
                    (super.is_verified || has_right_checksums(first));
    if (!super.is_open) break;
    super.is_verified = true;
    return join(super, packet, index, packet.length - headers);
  }
  const bool is_open = headers != 0 && !ends_with(packet);
  supers_[count_++] = {index, index, 1, static_cast<std::uint16_t>(packet.length - headers), headers, packet.length, is_open, false};
}

void Coalescer::join(SuperPacket& super, Packet& packet, std::uint16_t index, std::uint32_t payload_length) noexcept {
  next_[super.last] = index;
  super.last = index;
  ++super.count;
  super.length += payload_length;
  super.is_open = payload_length == super.segment_size && super.count < maximum_segments && !ends_with(packet);
}

Offload offload_of(const SuperPacket& super, const Packet& first, std::uint32_t link_size) noexcept {
  Offload offload;
  if (super.count == 1) return offload;
  const std::uint8_t protocol = protocol_of(first.data);
  offload.flags = Offload::needs_checksum;
  offload.gso_type = protocol == protocol_udp ? Offload::gso_udp_segmentation : is_ipv6(first.data) ? Offload::gso_tcp6 : Offload::gso_tcp4;
  offload.header_length = static_cast<std::uint16_t>(link_size + super.headers);
  offload.segment_size = super.segment_size;
  offload.checksum_start = static_cast<std::uint16_t>(link_size + ip_header_of(first.data));
  offload.checksum_offset = checksum_offset_of(protocol);
  return offload;
}

}  // namespace groupvpn
