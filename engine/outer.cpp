#include "outer.hpp"

#include <cstring>

#include "checksum.hpp"
#include "ipv4_options.hpp"

namespace groupvpn {
namespace {

constexpr std::uint32_t size_of_header(Family family) noexcept {
  return static_cast<std::uint32_t>(family == Family::ipv6 ? ipv6_header_size : ipv4_header_size);
}

// Walks the extension headers of a packet. A fragment header that says "whole" (RFC 6946) is taken out before, as reassembly would do; of
// several the last one. It has no place before AH (RFC 4302 A2), nor behind AH or ESP (RFC 4302 3.1.1, RFC 4303 3.1.1).
std::optional<Ipv6Chain> walk_whole(Packet& packet, Ipv6& ip) noexcept {
  const std::optional<Ipv6Chain> chain = Ipv6Chain::walk(ip);
  if (!chain || chain->fragment == 0 || chain->is_fragment(ip)) return chain;
  constexpr std::uint32_t size = fragment_header_size;
  packet.data[chain->fragment_named_at] = packet.data[chain->fragment + fragment_at::next_header];
  store16(packet.data + ipv6_at::payload_length, static_cast<std::uint16_t>(ip.payload_length() - size));
  std::memmove(packet.data + size, packet.data, chain->fragment);
  packet.reshape(packet.data + size, packet.length - size);
  const std::optional<Ipv6> shorter = Ipv6::parse(packet.data, packet.length);
  if (!shorter) return std::nullopt;
  ip = *shorter;
  return Ipv6Chain::walk(ip);
}

Reason plan_ipv4(const Packet& packet, bool is_tunnel, Plan& plan) noexcept {
  const std::optional<Ipv4> ip = Ipv4::parse(packet.data, packet.length);
  if (!ip) return Reason::malformed;
  plan.total_length = ip->total_length();
  if (is_tunnel) {
    plan.next_header = protocol_ipip;
    return Reason::delivered;
  }
  if (ip->is_fragment()) return Reason::fragment;
  plan.next_header = ip->protocol();
  plan.named_at = ipv4_at::protocol;
  plan.body_offset = ip->header_length();
  return Reason::delivered;
}

// In transport mode what routers look at stays outside; destination options do not, unless a routing header follows them (RFC 4303 3.1.1).
Reason plan_ipv6(Packet& packet, bool is_tunnel, Plan& plan) noexcept {
  std::optional<Ipv6> ip = Ipv6::parse(packet.data, packet.length);
  if (!ip) return Reason::malformed;
  plan.total_length = ip->total_length();
  if (is_tunnel) {
    plan.next_header = protocol_ipv6;
    return Reason::delivered;
  }
  const std::optional<Ipv6Chain> chain = walk_whole(packet, *ip);
  if (!chain) return Reason::malformed;
  if (chain->is_fragment(*ip)) return Reason::fragment;
  plan.total_length = ip->total_length();
  plan.next_header = packet.data[chain->unfragmentable_named_at];
  plan.named_at = chain->unfragmentable_named_at;
  plan.body_offset = chain->unfragmentable;
  return Reason::delivered;
}

// What an outer header takes over from the one inside.
struct Inherited {
  std::uint8_t tos, hop_limit;
  bool has_df;  // IPv6 has none; for it this says whether its source could send a smaller packet
  std::uint32_t flow_label;
};

Inherited inherit(const std::uint8_t* ip) noexcept {
  if (family_of(*ip) == Family::ipv4) {
    return {ip[ipv4_at::tos], ip[ipv4_at::ttl], (load16(ip + ipv4_at::fragment) & Ipv4::dont_fragment) != 0, 0};
  }
  const std::uint32_t word = load32(ip);
  // What no source has to make smaller must not meet a router that refuses it (RFC 4213 3.2.2).
  const bool can_be_smaller = ipv6_header_size + load16(ip + ipv6_at::payload_length) > ipv6_minimum_mtu;
  return {static_cast<std::uint8_t>(word >> 20), ip[ipv6_at::hop_limit], can_be_smaller, word & 0xfffff};
}

void write_ipv4(const Inherited& inner, DontFragment df, std::uint8_t protocol, std::uint8_t* outer, std::uint32_t length,
                std::uint16_t identification) noexcept {
  const bool has_df = df == DontFragment::set || (df == DontFragment::copy && inner.has_df);
  outer[0] = 0x45;
  outer[ipv4_at::tos] = inner.tos;
  store16(outer + ipv4_at::total_length, static_cast<std::uint16_t>(length));
  store16(outer + ipv4_at::identification, identification);
  store16(outer + ipv4_at::fragment, has_df ? Ipv4::dont_fragment : 0);
  outer[ipv4_at::ttl] = inner.hop_limit;
  outer[ipv4_at::protocol] = protocol;
  write_header_checksum(outer);  // the addresses stand there already
}

void write_ipv6(const Inherited& inner, std::uint8_t protocol, std::uint8_t* outer, std::uint32_t length) noexcept {
  store32(outer, 6U << 28 | std::uint32_t{inner.tos} << 20 | inner.flow_label);
  store16(outer + ipv6_at::payload_length, static_cast<std::uint16_t>(length - ipv6_header_size));
  outer[ipv6_at::next_header] = protocol;
  outer[ipv6_at::hop_limit] = inner.hop_limit;
}

void write_tunnel_header(const std::uint8_t* ip, const Sa& sa, const Plan& plan, std::uint8_t protocol, std::uint8_t* outer, std::uint32_t length,
                         std::uint16_t identification) noexcept {
  Inherited inner = inherit(ip);
  if (const std::optional<std::uint8_t> tos = sa.tos()) inner.tos = static_cast<std::uint8_t>((*tos & ~Ecn::mask) | (inner.tos & Ecn::mask));
  if (sa.preserves_addresses()) {
    plan.family == Family::ipv4 ? std::memcpy(outer + ipv4_at::source, ip + ipv4_at::source, 8)
                                : std::memcpy(outer + ipv6_at::source, ip + ipv6_at::source, 32);
  } else {
    const Endpoints& endpoints = sa.endpoints();
    const std::size_t size = address_size(plan.family), at = plan.family == Family::ipv4 ? ipv4_at::source : ipv6_at::source;
    std::memcpy(outer + at, endpoints.source.data(), size);
    std::memcpy(outer + at + size, endpoints.destination.data(), size);
    inner.hop_limit = tunnel_hop_limit;
  }
  if (plan.family == Family::ipv4) {
    write_ipv4(inner, sa.df(), protocol, outer, length, identification);
  } else {
    write_ipv6(inner, protocol, outer, length);
  }
}

// Sets the length and the next protocol of a header whose packet changed behind it.
void rewrite_header(std::uint8_t* ip, std::uint32_t named_at, std::uint8_t protocol, std::uint32_t length) noexcept {
  ip[named_at] = protocol;
  set_total_length(ip, length);
}

void write_checksum(const std::uint8_t* ip, std::uint8_t* transport, std::uint32_t length, std::uint8_t protocol, std::uint32_t field) noexcept {
  store16(transport + field, 0);
  const std::uint64_t sum = add_sum(transport, length, pseudo_header_sum(ip, protocol, length));
  store16(transport + field, protocol == protocol_udp ? udp_checksum_of(sum) : finish_sum(sum));
}

// A NAT that changed addresses could not correct the checksums that cover them, since they were encrypted. What the ICV vouches for gets new
// ones: the second way of RFC 3948 3.1.2, which does not need to know the addresses from before.
void repair_checksum(std::uint8_t* ip, std::uint32_t total_length) noexcept {
  std::uint32_t offset;
  std::uint8_t protocol;
  const bool is_ipv6 = family_of(*ip) == Family::ipv6;
  if (is_ipv6) {
    const std::optional<Ipv6> header = Ipv6::parse(ip, total_length);
    const std::optional<Ipv6Chain> chain = header ? Ipv6Chain::walk(*header) : std::nullopt;
    if (!chain || chain->is_fragment(*header)) return;
    offset = chain->upper;
    protocol = chain->protocol;
  } else {
    offset = (*ip & 0x0fU) * 4U;
    protocol = ip[ipv4_at::protocol];
  }
  std::uint8_t* transport = ip + offset;
  const std::uint32_t length = total_length - offset;
  if (protocol == protocol_tcp && length >= tcp_header_size) {
    write_checksum(ip, transport, length, protocol, tcp_at::checksum);
  } else if (protocol == protocol_udp && length >= udp_header_size && (is_ipv6 || load16(transport + udp_at::checksum) != 0)) {
    const std::uint32_t covered = load16(transport + udp_at::length);  // the packet may go on behind UDP
    if (covered >= udp_header_size && covered <= length) write_checksum(ip, transport, covered, protocol, udp_at::checksum);
  } else if (protocol == protocol_icmpv6 && is_ipv6 && length >= 4) {
    write_checksum(ip, transport, length, protocol, icmp_at::checksum);
  }
}

// Whether a source route in the options is not used up (RFC 791 3.1).
bool has_hops_left(const Ipv4& ip) noexcept {
  Ipv4Options options({ip.data() + ipv4_header_size, ip.header_length() - ipv4_header_size});
  while (const std::optional<std::span<std::uint8_t>> option = options.next()) {
    const std::uint8_t type = option->front();
    const bool is_route = type == Ipv4Options::loose_route || type == Ipv4Options::strict_route;
    if (is_route && option->size() > 2 && (*option)[2] <= option->size()) return true;
  }
  return false;
}

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
  if (has_hops_left(*ip)) return Reason::malformed;
  outer.family = Family::ipv4;
  outer.tos = ip->tos();
  outer.named_at = ipv4_at::protocol;
  std::memcpy(outer.source.data(), ip->data() + ipv4_at::source, 4);
  std::memcpy(outer.destination.data(), ip->data() + ipv4_at::destination, 4);
  payload = {ip->protocol(), ip->header_length(), ip->payload_length()};
  return Reason::delivered;
}

Reason read_ipv6(Packet& packet, Outer& outer, Payload& payload) noexcept {
  std::optional<Ipv6> ip = Ipv6::parse(packet.data, packet.length);
  if (!ip) return Reason::malformed;
  const std::optional<Ipv6Chain> chain = walk_whole(packet, *ip);
  if (!chain) return Reason::malformed;
  if (chain->is_fragment(*ip)) return Reason::fragment;
  if (chain->has_hops_left) return Reason::malformed;
  outer.family = Family::ipv6;
  outer.tos = ip->traffic_class();
  outer.named_at = chain->named_at;
  std::memcpy(outer.source.data(), ip->source(), 16);
  std::memcpy(outer.destination.data(), ip->destination(), 16);
  payload = {chain->protocol, chain->upper, ip->total_length() - chain->upper};
  return Reason::delivered;
}

// RFC 3948 2: what follows the UDP header is one octet 0xFF (a keepalive), four octets 0 (the non-ESP marker: IKE), or ESP.
Reason read_udp(const std::uint8_t* udp, Payload& payload) noexcept {
  if (payload.length < udp_header_size) return Reason::malformed;
  const std::uint32_t length = load16(udp + udp_at::length);
  if (length < udp_header_size || length > payload.length) return Reason::malformed;
  payload = {protocol_esp, payload.offset + udp_header_size, length - udp_header_size};
  const std::uint8_t* content = udp + udp_header_size;
  if (payload.length == 1 && *content == 0xff) return Reason::keepalive;
  if (payload.length >= 4 && load32(content) == 0) return Reason::non_esp_marker;
  return Reason::delivered;
}

bool has_outer_addresses(const std::uint8_t* ip, Family family, const Outer& outer) noexcept {
  if (family != outer.family) return false;
  if (family == Family::ipv4) {
    return std::memcmp(ip + ipv4_at::source, outer.source.data(), 4) == 0 &&
           std::memcmp(ip + ipv4_at::destination, outer.destination.data(), 4) == 0;
  }
  return std::memcmp(ip + ipv6_at::source, outer.source.data(), 16) == 0 &&
         std::memcmp(ip + ipv6_at::destination, outer.destination.data(), 16) == 0;
}

void set_ecn(std::uint8_t* ip, Family family, std::uint8_t codepoint) noexcept {
  if (family == Family::ipv6) {
    ip[1] = static_cast<std::uint8_t>((ip[1] & ~(Ecn::mask << 4)) | codepoint << 4);
    return;
  }
  const std::uint16_t before = load16(ip);
  ip[ipv4_at::tos] = static_cast<std::uint8_t>((ip[ipv4_at::tos] & ~Ecn::mask) | codepoint);
  update_header_checksum(ip, before, load16(ip));
}

Reason unwrap_tunnel(Packet& packet, const Verified& verified) noexcept {
  std::uint8_t* ip = verified.data;
  Family family = Family::ipv4;
  std::uint32_t length;
  std::uint8_t tos;
  // Octets behind the packet are padding for the confidentiality of traffic flows (RFC 4303 2.7).
  if (verified.next_header == protocol_ipip) {
    const std::optional<Ipv4> inner = Ipv4::parse(ip, verified.length);
    if (!inner) return Reason::inner_malformed;
    length = inner->total_length();
    tos = inner->tos();
  } else if (verified.next_header == protocol_ipv6) {
    const std::optional<Ipv6> inner = Ipv6::parse(ip, verified.length);
    if (!inner) return Reason::inner_malformed;
    family = Family::ipv6;
    length = inner->total_length();
    tos = inner->traffic_class();
  } else {
    return Reason::next_header;
  }
  if (packet.sa->preserves_addresses() && !has_outer_addresses(ip, family, packet.outer)) return Reason::address_mismatch;
  const Ecn ecn = combine_ecn(tos & Ecn::mask, packet.outer.tos & Ecn::mask);
  if (ecn.is_dropped) return Reason::congestion;
  if (ecn.codepoint != (tos & Ecn::mask)) set_ecn(ip, family, ecn.codepoint);
  packet.reshape(ip, length);
  return Reason::delivered;
}

// The header moves to what was protected, over UDP, ESP or AH, which are no more.
Reason unwrap_transport(Packet& packet, const Verified& verified) noexcept {
  const Outer& outer = packet.outer;
  const std::uint32_t header_length = outer.header_length - (outer.has_udp ? udp_header_size : 0);
  std::uint8_t* ip = verified.data - header_length;
  const std::uint32_t length = header_length + verified.length;
  std::memmove(ip, packet.data - outer.header_length, header_length);
  rewrite_header(ip, outer.named_at, verified.next_header, length);
  if (outer.has_udp && packet.sa->udp()) repair_checksum(ip, length);
  packet.reshape(ip, length);
  return Reason::delivered;
}

}  // namespace

Reason plan_outer(Packet& packet, const Sa& sa, Plan& plan) noexcept {
  const bool is_tunnel = sa.mode() == Mode::tunnel;
  const bool is_ipv6 = packet.length != 0 && family_of(*packet.data) == Family::ipv6;
  plan.body_offset = 0;
  const Reason reason = is_ipv6 ? plan_ipv6(packet, is_tunnel, plan) : plan_ipv4(packet, is_tunnel, plan);
  if (reason != Reason::delivered) return reason;
  plan.family = is_ipv6 ? Family::ipv6 : Family::ipv4;
  if (is_tunnel && sa.endpoints().family != Family::none) plan.family = sa.endpoints().family;
  plan.header_length = (is_tunnel ? size_of_header(plan.family) : plan.body_offset) + (sa.udp() ? udp_header_size : 0);
  plan.body_length = plan.total_length - plan.body_offset;
  return Reason::delivered;
}

void write_outer(const Packet& packet, const Sa& sa, const Plan& plan, std::uint8_t* outer, std::uint32_t length,
                 std::uint16_t identification) noexcept {
  const std::uint8_t protocol = sa.udp() ? protocol_udp : static_cast<std::uint8_t>(sa.protocol());
  if (sa.mode() == Mode::tunnel) {
    write_tunnel_header(packet.data, sa, plan, protocol, outer, length, identification);
  } else {
    std::memmove(outer, packet.data, plan.body_offset);
    rewrite_header(outer, plan.named_at, protocol, length);
  }
  if (!sa.udp()) return;
  const std::uint32_t before = plan.header_length - udp_header_size;
  std::uint8_t* udp = outer + before;
  store16(udp + udp_at::source, sa.udp()->source);
  store16(udp + udp_at::destination, sa.udp()->destination);
  store16(udp + udp_at::length, static_cast<std::uint16_t>(length - before));
  store16(udp + udp_at::checksum, 0);
}

void finish_udp(const Packet& packet, const Plan& plan) noexcept {
  if (plan.family != Family::ipv6) return;
  const std::uint32_t before = plan.header_length - udp_header_size;
  write_checksum(packet.data, packet.data + before, packet.length - before, protocol_udp, udp_at::checksum);
}

Reason parse_outer(Packet& packet) noexcept {
  Outer& outer = packet.outer;
  Payload payload;
  const bool is_ipv6 = packet.length != 0 && family_of(*packet.data) == Family::ipv6;
  const Reason reason = is_ipv6 ? read_ipv6(packet, outer, payload) : read_ipv4(packet, outer, payload);
  if (reason != Reason::delivered) return reason;
  outer.has_udp = payload.protocol == protocol_udp;
  if (outer.has_udp) {
    if (const Reason found = read_udp(packet.data + payload.offset, payload); found != Reason::delivered) return found;
  }
  if (payload.protocol != protocol_esp && payload.protocol != protocol_ah) return Reason::not_esp;
  outer.protocol = payload.protocol;
  outer.header_length = payload.offset;
  packet.reshape(packet.data + payload.offset, payload.length);  // what the link layer padded stays behind
  return Reason::delivered;
}

Reason unwrap(Packet& packet, const Verified& verified) noexcept {
  return packet.sa->mode() == Mode::tunnel ? unwrap_tunnel(packet, verified) : unwrap_transport(packet, verified);
}

}  // namespace groupvpn
