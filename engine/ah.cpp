#include "ah.hpp"

#include <cstring>

#include "checksum.hpp"
#include "ipv4_options.hpp"

namespace groupvpn {
namespace {

// RFC 4302 appendix A1, by the whole octet of the option: copied flag, class and number.
constexpr bool is_immutable_option(std::uint8_t type) noexcept {
  constexpr std::uint8_t security = 0x82, extended_security = 0x85, commercial_security = 0x86, router_alert = 0x94, multi_destination = 0x95;
  return type == security || type == extended_security || type == commercial_security || type == router_alert || type == multi_destination;
}

// A source route that is not used up names the destination that the receiver will find in the header (RFC 4302 3.3.3.1.1.1).
void predict_destination(std::uint8_t* ip, std::span<const std::uint8_t> option) noexcept {
  if (option.front() != Ipv4Options::loose_route && option.front() != Ipv4Options::strict_route) return;
  if (option.size() < 7 || option[2] > option.size() - 3) return;
  std::memcpy(ip + ipv4_at::destination, option.last<4>().data(), 4);
}

bool mask_ipv4(std::uint8_t* ip, std::uint32_t length) noexcept {
  ip[ipv4_at::tos] = 0;
  store16(ip + ipv4_at::fragment, 0);
  ip[ipv4_at::ttl] = 0;
  store16(ip + ipv4_at::checksum, 0);
  Ipv4Options options({ip + ipv4_header_size, length - ipv4_header_size});
  while (const std::optional<std::span<std::uint8_t>> option = options.next()) {
    if (is_immutable_option(option->front())) continue;
    predict_destination(ip, *option);
    std::memset(option->data(), 0, option->size());
  }
  return options.is_whole();
}

// The data of options that may change on the way, by the bit in their type (RFC 8200 4.2).
bool mask_ipv6_options(std::uint8_t* header, std::uint32_t size) noexcept {
  constexpr std::uint8_t pad_1 = 0, may_change = 0x20;
  for (std::uint32_t at = 2; at < size;) {
    if (header[at] == pad_1) {
      ++at;
      continue;
    }
    if (at + 2 > size || at + 2 + header[at + 1] > size) return false;
    const std::uint32_t data_size = header[at + 1];
    if ((header[at] & may_change) != 0) std::memset(header + at + 2, 0, data_size);
    at += 2 + data_size;
  }
  return true;
}

bool mask_ipv6(std::uint8_t* ip, std::uint32_t length) noexcept {
  store32(ip, 6U << 28);  // traffic class and flow label
  ip[ipv6_at::hop_limit] = 0;
  std::uint8_t protocol = ip[ipv6_at::next_header];
  for (std::uint32_t at = ipv6_header_size; at < length;) {
    if (length - at < 8) return false;
    std::uint8_t* header = ip + at;
    const std::uint32_t size = (header[1] + 1U) * 8U;
    if (size > length - at) return false;
    if (protocol == protocol_hop_by_hop || protocol == protocol_destination_options) {
      if (!mask_ipv6_options(header, size)) return false;
    } else if (protocol != protocol_routing || header[3] != 0) {  // segments left
      return false;
    }
    protocol = *header;
    at += size;
  }
  return true;
}

// Transport mode keeps the identification of the packet. Where it is 0, and DF not set, a raw socket would have the kernel choose another one
// (raw(7)) behind our ICV.
void replace_identification(std::uint8_t* ip, std::uint16_t identification) noexcept {
  if (load16(ip + ipv4_at::identification) != 0 || (load16(ip + ipv4_at::fragment) & Ipv4::dont_fragment) != 0) return;
  store16(ip + ipv4_at::identification, identification);
  write_header_checksum(ip);
}

// Saves the header and masks it.
bool cover_header(std::uint8_t* ip, std::uint32_t length, SavedHeader& saved) noexcept {
  if (length > SavedHeader::maximum_size) return false;
  saved.length = length;
  std::memcpy(saved.octets.data(), ip, length);
  return mask_mutable_fields(ip, length);
}

void begin_operation(Operation& operation, const Sa& sa, std::uint8_t* ip, std::uint32_t covered, std::uint8_t* icv) noexcept {
  operation.use(sa.schedule(), Cipher::null, sa.integrity());
  operation.place(ip, covered, 0);
  operation.tag = icv;
}

// Makes room behind a packet for the octets that are only covered.
bool make_tailroom(Packet& packet) noexcept {
  constexpr std::uint32_t needed = 4;
  if (packet.tailroom >= needed) return true;
  const std::uint32_t header_length = packet.outer.header_length;
  if (packet.headroom < header_length + needed) return false;
  std::memmove(packet.data - header_length - needed, packet.data - header_length, header_length + packet.length);
  packet.data -= needed;
  packet.headroom -= needed;
  packet.tailroom += needed;
  return true;
}

}  // namespace

bool mask_mutable_fields(std::uint8_t* ip, std::uint32_t length) noexcept {
  return family_of(*ip) == Family::ipv6 ? mask_ipv6(ip, length) : mask_ipv4(ip, length);
}

Reason build_ah(Packet& packet, const Plan& plan, std::int64_t now, Identifications& identifications, Operation& operation,
                SavedHeader& saved) noexcept {
  Sa& sa = *packet.sa;
  const std::uint32_t ah_length = sa.ah_length(plan.family);
  const std::uint32_t front = plan.header_length + ah_length;
  const std::uint32_t length = front + plan.body_length;
  if (length > sa.maximum_length(plan.family)) return Reason::too_big;
  constexpr std::uint32_t covered_only = 4;
  if (!plan.has_room(packet, front, plan.body_length + (sa.has_extended_sequence() ? covered_only : 0))) return Reason::oversize;

  const Grant grant = sa.next_sequence(now);
  if (grant.reason != Reason::delivered) return grant.reason;
  std::uint8_t* outer = packet.data + plan.body_offset - front;
  const std::uint16_t identification = identifications.next();
  write_outer(packet, sa, plan, outer, length, identification);
  std::uint8_t* ah = outer + plan.header_length;
  std::memset(ah, 0, ah_length);
  ah[ah_at::next_header] = plan.next_header;
  ah[ah_at::length] = static_cast<std::uint8_t>(ah_length / 4 - 2);
  store32(ah + ah_at::spi, sa.spi());
  store32(ah + ah_at::sequence, static_cast<std::uint32_t>(grant.sequence));

  packet.reshape(outer, length);
  if (plan.family == Family::ipv4) replace_identification(outer, identification);
  if (!cover_header(outer, plan.header_length, saved)) return Reason::malformed;
  begin_operation(operation, sa, outer, length, ah + ah_at::icv);
  if (sa.has_extended_sequence()) operation.cover_upper_half(grant.sequence);
  return Reason::delivered;
}

Reason parse_ah(Packet& packet, std::int64_t now, Origin& origin, Operation& operation, SavedHeader& saved) noexcept {
  Sa& sa = *packet.sa;
  // Padding beyond what alignment asks for is forbidden; some align for IPv6 in IPv4 as well.
  const std::uint32_t ah_length = (packet.data[ah_at::length] + 2U) * 4U;
  const bool is_aligned = ah_length == sa.ah_length(packet.outer.family) || ah_length == sa.ah_length(Family::ipv6);
  if (!is_aligned || ah_length > packet.length) return Reason::esp_length;
  const std::uint32_t header_length = packet.outer.header_length;
  if (header_length == 0) return Reason::oversize;  // the header is not where its ICV can be computed
  if (const Reason seen = sa.look(origin, load32(packet.data + ah_at::sequence), nullptr, now); seen != Reason::delivered) return seen;
  if (sa.has_extended_sequence() && !make_tailroom(packet)) return Reason::oversize;

  std::uint8_t* ip = packet.data - header_length;
  std::uint8_t* icv = packet.data + ah_at::icv;
  if (!cover_header(ip, header_length, saved)) return Reason::malformed;
  begin_operation(operation, sa, ip, header_length + packet.length, icv);
  operation.keep_received(sa.icv_length());
  std::memset(icv, 0, sa.icv_length());
  if (sa.has_extended_sequence()) operation.cover_upper_half(origin.sequence);
  return Reason::delivered;
}

void restore_header(std::uint8_t* ip, const SavedHeader& saved) noexcept { std::memcpy(ip, saved.octets.data(), saved.length); }

Reason strip_ah(const Packet& packet, const Operation& operation, const SavedHeader& saved, Verified& verified) noexcept {
  restore_header(operation.begin, saved);
  const std::uint32_t ah_length = (packet.data[ah_at::length] + 2U) * 4U;
  verified = {packet.data + ah_length, packet.length - ah_length, packet.data[ah_at::next_header]};
  return Reason::delivered;
}

}  // namespace groupvpn
