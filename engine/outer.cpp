#include "outer.hpp"

#include <cstring>

#include "checksum.hpp"

namespace groupvpn {
namespace {

// What the IP header says of its payload: `length` octets of `protocol`, `offset` octets behind the start of the packet.
struct Payload {
  std::uint8_t protocol;
  std::uint32_t offset, length;
};

Reason read_ipv4(const Packet& packet, Outer& outer, Payload& payload) noexcept {
  const std::optional<Ipv4> ip = Ipv4::parse(packet.data, packet.length);
  if (!ip) return Reason::malformed;
  if (!is_checksum_right(ip->data(), ip->header_length())) return Reason::header_checksum;
  if (ip->is_fragment()) return Reason::fragment;
  outer.family = Family::ipv4;
  outer.tos = ip->tos();
  std::memcpy(outer.source.data(), ip->data() + 12, 4);
  std::memcpy(outer.destination.data(), ip->data() + 16, 4);
  payload = {ip->protocol(), ip->header_length(), ip->payload_length()};
  return Reason::delivered;
}

Reason read_ipv6(const Packet& packet, Outer& outer, Payload& payload) noexcept {
  const std::optional<Ipv6> ip = Ipv6::parse(packet.data, packet.length);
  if (!ip) return Reason::malformed;
  const std::optional<Ipv6Chain> chain = Ipv6Chain::walk(*ip);
  if (!chain) return Reason::malformed;
  // A fragment header of a packet that is whole is passed over (RFC 6946).
  if (chain->fragment != 0 && (load16(ip->data() + chain->fragment + 2) & 0xfff9) != 0) return Reason::fragment;
  outer.family = Family::ipv6;
  outer.tos = ip->traffic_class();
  std::memcpy(outer.source.data(), ip->source(), 16);
  std::memcpy(outer.destination.data(), ip->destination(), 16);
  payload = {chain->protocol, chain->upper, ip->total_length() - chain->upper};
  return Reason::delivered;
}

// RFC 3948 2: what follows the UDP header is one octet 0xFF (a keepalive), four octets 0 (the non-ESP marker: IKE), or ESP.
Reason read_udp(const std::uint8_t* udp, Outer& outer, Payload& payload) noexcept {
  if (payload.length < udp_header_size) return Reason::malformed;
  const std::uint32_t length = load16(udp + 4);
  if (length < udp_header_size || length > payload.length) return Reason::malformed;
  outer.source_port = load16(udp);
  outer.destination_port = load16(udp + 2);
  payload = {protocol_esp, payload.offset + udp_header_size, length - udp_header_size};
  const std::uint8_t* content = udp + udp_header_size;
  if (payload.length == 1 && *content == 0xff) return Reason::keepalive;
  if (payload.length >= 4 && load32(content) == 0) return Reason::non_esp_marker;
  return Reason::delivered;
}

}  // namespace

Reason parse_outer(Packet& packet) noexcept {
  Outer& outer = packet.outer;
  Payload payload;
  const bool is_ipv6 = packet.length != 0 && family_of(*packet.data) == Family::ipv6;
  if (const Reason reason = is_ipv6 ? read_ipv6(packet, outer, payload) : read_ipv4(packet, outer, payload); reason != Reason::delivered) return reason;
  outer.source_port = outer.destination_port = 0;
  if (payload.protocol == protocol_udp) {
    if (const Reason reason = read_udp(packet.data + payload.offset, outer, payload); reason != Reason::delivered) return reason;
  }
  if (payload.protocol != protocol_esp && payload.protocol != protocol_ah) return Reason::not_esp;
  outer.protocol = payload.protocol;
  outer.header_length = static_cast<std::uint16_t>(payload.offset);
  packet.tailroom += packet.length - payload.offset - payload.length;  // what the link layer padded
  packet.data += payload.offset;
  packet.length = payload.length;
  packet.headroom += payload.offset;
  return Reason::delivered;
}

}  // namespace groupvpn
