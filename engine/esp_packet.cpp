#include "esp_packet.hpp"

#include <cstring>

namespace groupvpn {
namespace {

void begin_operation(Operation& operation, const Sa& sa, std::uint8_t* esp, std::uint32_t payload_length) noexcept {
  operation.use(sa.schedule(), sa.cipher(), sa.integrity());
  operation.place(esp, esp_header_size + sa.iv_length(), payload_length);
  // Salt and explicit IV make the nonce of counter modes (RFC 4106 4, RFC 3686 4); CBC and NULL take the IV as it stands in the packet.
  std::uint8_t* iv = operation.iv.data();
  if (sa.is_counter_mode()) {
    std::memcpy(iv, sa.schedule().salt.data(), 4);
    std::memcpy(iv + 4, esp + esp_header_size, 8);
  } else if (sa.iv_length() == 16) {
    std::memcpy(iv, esp + esp_header_size, 16);
  } else {
    std::memcpy(iv, esp + esp_header_size, sa.iv_length());
  }
}

// What Sa::reaches_before asks for.
bool has_room_before(const Packet& packet) noexcept {
  constexpr std::uint32_t extension_size = 4;
  return packet.sa->mode() == Mode::transport ? packet.outer.header_length != 0 : packet.headroom >= extension_size;
}

}  // namespace

Reason build_esp(Packet& packet, const Plan& plan, std::int64_t now, Identifications& identifications, Operation& operation,
                 RandomOctets& random) noexcept {
  Sa& sa = *packet.sa;
  const std::uint32_t alignment = sa.alignment();
  const std::uint32_t payload_length = (plan.body_length + 2 + alignment - 1) / alignment * alignment;
  const std::uint32_t front = plan.header_length + esp_header_size + sa.iv_length();
  const std::uint32_t back = payload_length + sa.icv_length();
  if (front + back > sa.maximum_length(plan.family)) return Reason::too_big;
  if (!plan.has_room(packet, front, back)) return Reason::oversize;

  const Grant grant = sa.next_sequence(now);
  if (grant.reason != Reason::delivered) return grant.reason;

  std::uint8_t* body = packet.data + plan.body_offset;
  std::uint8_t* trailer = body + plan.body_length;  // what the link layer padded stays behind
  const std::uint32_t pad_length = payload_length - plan.body_length - 2;
  for (std::uint32_t octet = 1; octet <= pad_length; ++octet) *trailer++ = static_cast<std::uint8_t>(octet);
  *trailer++ = static_cast<std::uint8_t>(pad_length);
  *trailer = plan.next_header;

  std::uint8_t* outer = body - front;
  write_outer(packet, sa, plan, outer, front + back, identifications.next());
  std::uint8_t* esp = outer + plan.header_length;
  store32(esp + esp_at::spi, sa.spi());
  store32(esp + esp_at::sequence, static_cast<std::uint32_t>(grant.sequence));
  if (sa.is_counter_mode()) {
    store64(esp + esp_header_size, grant.iv);
  } else if (sa.counter_schedule() != nullptr) {
    store64(esp + esp_header_size, grant.iv);  // until `hide_counters`
  } else {
    random.take(esp + esp_header_size, sa.iv_length());
  }
  begin_operation(operation, sa, esp, payload_length);
  if (sa.has_extended_sequence()) operation.cover_upper_half(grant.sequence);

  packet.reshape(outer, front + back);
  return Reason::delivered;
}

Reason parse_esp(Packet& packet, std::int64_t now, Origin& origin, Operation& operation) noexcept {
  Sa& sa = *packet.sa;
  std::uint8_t* esp = packet.data;
  const std::uint32_t around = esp_header_size + sa.iv_length() + sa.icv_length();
  if (packet.length < around + sa.alignment() || (packet.length - around) % sa.alignment() != 0) return Reason::esp_length;
  if (sa.reaches_before() && !has_room_before(packet)) return Reason::oversize;
  if (const Reason seen = sa.look(origin, load32(esp + esp_at::sequence), esp + esp_header_size, now); seen != Reason::delivered) return seen;

  begin_operation(operation, sa, esp, packet.length - around);
  if (!sa.has_extended_sequence()) return Reason::delivered;
  operation.keep_received(sa.icv_length());
  operation.cover_upper_half(origin.sequence);
  return Reason::delivered;
}

Reason strip_esp(const Operation& operation, Verified& verified) noexcept {
  std::uint8_t* payload = operation.payload();
  const std::uint32_t pad_length = payload[operation.payload_length - 2];
  if (pad_length + 2 > operation.payload_length) return Reason::padding;
  verified = {payload, operation.payload_length - 2 - pad_length, payload[operation.payload_length - 1]};
  for (std::uint32_t octet = 0; octet < pad_length; ++octet) {
    if (payload[verified.length + octet] != octet + 1) return Reason::padding;
  }
  return verified.next_header == protocol_none ? Reason::dummy : Reason::delivered;
}

}  // namespace groupvpn
