#include "coalesce.hpp"

#include <cstring>

#include "checksum.hpp"

namespace groupvpn {
namespace {

constexpr std::uint32_t tcp_header_size = 20;
constexpr std::uint8_t tcp_push = 0x08, tcp_ack = 0x10;
constexpr std::uint16_t tcp_checksum_offset = 16, udp_checksum_offset = 6;

std::uint16_t checksum_offset_of(std::uint8_t protocol) noexcept { return protocol == protocol_tcp ? tcp_checksum_offset : udp_checksum_offset; }

// Octets of the headers of a packet that may be part of a super-packet, else 0.
std::uint32_t headers_of(const Packet& packet, bool with_udp) noexcept {
  const std::optional<Ipv4> ip = Ipv4::parse(packet.data, packet.length);
  if (!ip || ip->header_length() != ipv4_header_size || ip->total_length() != packet.length) return 0;
  if (ip->is_fragment() || is_multicast(ip->destination()) || ip->destination() == 0xffffffff) return 0;
  const std::uint8_t* transport = ip->payload();
  const std::uint32_t length = ip->payload_length();
  if (ip->protocol() == protocol_tcp && length > tcp_header_size) {
    const std::uint32_t header = (transport[12] >> 4) * 4U;
    const bool has_plain_flags = (transport[13] & ~tcp_push) == tcp_ack;
    return header >= tcp_header_size && header < length && has_plain_flags ? ipv4_header_size + header : 0;
  }
  if (with_udp && ip->protocol() == protocol_udp && length > udp_header_size) {
    const bool has_checksum = load16(transport + udp_checksum_offset) != 0;
    return load16(transport + 4) == length && has_checksum ? ipv4_header_size + udp_header_size : 0;
  }
  return 0;
}

bool has_right_checksums(const Packet& packet) noexcept {
  const std::uint8_t* ip = packet.data;
  const std::uint32_t length = packet.length - ipv4_header_size;
  return is_checksum_right(ip, ipv4_header_size) &&
         finish_sum(add_sum(ip + ipv4_header_size, length, pseudo_header_sum(ip, ip[9], length))) == 0;
}

bool have_same_addresses(const std::uint8_t* left, const std::uint8_t* right) noexcept { return std::memcmp(left + 12, right + 12, 8) == 0; }

// Both have 20 octets of IPv4 header and ports behind it.
bool are_one_flow(const std::uint8_t* left, const std::uint8_t* right) noexcept {
  return left[9] == right[9] && std::memcmp(left + 12, right + 12, 12) == 0;
}

// Whether `packet` continues `super`, whose first packet is `first`; both are of one flow.
bool continues(const SuperPacket& super, const Packet& first, const Packet& packet, std::uint32_t headers) noexcept {
  const std::uint8_t* a = first.data;
  const std::uint8_t* b = packet.data;
  const std::uint32_t payload_length = packet.length - headers;
  if (headers != super.headers || payload_length > super.segment_size || super.length + payload_length > ipv4_maximum_size) return false;
  if (a[1] != b[1] || std::memcmp(a + 6, b + 6, 3) != 0) return false;  // TOS; flags and TTL
  const bool has_dont_fragment = (load16(a + 6) & Ipv4::dont_fragment) != 0;
  if (!has_dont_fragment && load16(b + 4) != static_cast<std::uint16_t>(load16(a + 4) + super.count)) return false;
  if (a[9] == protocol_udp) return true;
  const std::uint8_t* s = a + ipv4_header_size;
  const std::uint8_t* t = b + ipv4_header_size;
  const std::uint32_t sequence = load32(s + 4) + (super.length - super.headers);
  return load32(t + 4) == sequence && std::memcmp(s + 8, t + 8, 5) == 0 &&  // acknowledgement; header length and reserved bits
         std::memcmp(s + 14, t + 14, 2) == 0 &&                             // window
         std::memcmp(s + 18, t + 18, headers - ipv4_header_size - 18) == 0;  // urgent pointer and options
}

bool ends_with(const Packet& packet) noexcept {
  return packet.data[9] == protocol_tcp && (packet.data[ipv4_header_size + 13] & tcp_push) != 0;
}

// Lets the headers of the first packet speak for all. The checksum field gets what the kernel wants to find there: the sum of the pseudo header.
void write_headers(const SuperPacket& super, const Packet& first, const Packet& last) noexcept {
  std::uint8_t* ip = first.data;
  std::uint8_t* transport = ip + ipv4_header_size;
  const std::uint32_t length = super.length - ipv4_header_size;
  if (ends_with(last)) transport[13] |= tcp_push;
  if (ip[9] == protocol_udp) store16(transport + 4, static_cast<std::uint16_t>(length));
  store16(ip + 2, static_cast<std::uint16_t>(super.length));
  write_header_checksum(ip);
  const std::uint16_t complement = finish_sum(pseudo_header_sum(ip, ip[9], length));
  store16(transport + checksum_offset_of(ip[9]), static_cast<std::uint16_t>(~complement));
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

// The packet joins the super-packet of its flow, or ends it and begins another one. What has no ports ends all between its addresses.
void Coalescer::add(std::span<Packet> burst, std::uint16_t index) noexcept {
  Packet& packet = burst[index];
  const std::uint32_t headers = headers_of(packet, with_udp_);
  for (SuperPacket& super : std::span(supers_).first(count_)) {
    if (!super.is_open) continue;
    Packet& first = burst[super.first];
    if (headers == 0) {
      if (packet.length < ipv4_header_size || have_same_addresses(first.data, packet.data)) super.is_open = false;
      continue;
    }
    if (!are_one_flow(first.data, packet.data)) continue;
    super.is_open = continues(super, first, packet, headers) && has_right_checksums(packet) && (super.is_verified || has_right_checksums(first));
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
  const std::uint8_t protocol = first.data[9];
  offload.flags = Offload::needs_checksum;
  offload.gso_type = protocol == protocol_tcp ? Offload::gso_tcp4 : Offload::gso_udp_segmentation;
  offload.header_length = static_cast<std::uint16_t>(link_size + super.headers);
  offload.segment_size = super.segment_size;
  offload.checksum_start = static_cast<std::uint16_t>(link_size + ipv4_header_size);
  offload.checksum_offset = checksum_offset_of(protocol);
  return offload;
}

}  // namespace groupvpn
