#include "esp.hpp"

#include <cstring>

namespace groupvpn {
namespace {

constexpr std::uint32_t esp_header_size = 8;

enum class Way : bool { encrypted, decrypted };

void count(Way way, Sa* sa, std::uint64_t packets, std::uint64_t octets) noexcept {
  if (packets == 0) return;
  way == Way::encrypted ? sa->count_encrypted(packets, octets) : sa->count_decrypted(packets, octets);
}

// Adds up runs of packets of one SA, so that a burst costs its shared counters one update and not one per packet.
class RunCounter {
 public:
  explicit RunCounter(Way way) noexcept : way_(way) {}
  ~RunCounter() { count(way_, sa_, packets_, octets_); }
  RunCounter(const RunCounter&) = delete;
  RunCounter& operator=(const RunCounter&) = delete;

  void add(Sa* sa, std::uint64_t octets) noexcept {
    if (sa != sa_) {
      count(way_, sa_, packets_, octets_);
      sa_ = sa;
      packets_ = octets_ = 0;
    }
    ++packets_;
    octets_ += octets;
  }

 private:
  Way way_;
  Sa* sa_ = nullptr;
  std::uint64_t packets_ = 0;
  std::uint64_t octets_ = 0;
};

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

// From verified plaintext to what was protected.
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

}  // namespace

Esp::Esp() : random_(crypto_), next_identification_(random_identification()) {}

std::uint16_t Esp::random_identification() noexcept {
  std::array<std::uint8_t, 2> octets;
  random_.take(octets.data(), octets.size());
  return load16(octets.data());
}

// Never 0: there a raw socket would have the kernel choose (raw(7)), and the ICV of AH covers it.
std::uint16_t Esp::identification() noexcept {
  if (next_identification_ == 0) ++next_identification_;
  return next_identification_++;
}

// Stage 1 of encapsulation: everything but the ciphertext and the ICV.
Reason Esp::build(Packet& packet, std::size_t index, std::int64_t now) noexcept {
  if (packet.sa == nullptr) return Reason::no_sa;
  Plan& plan = plans_[index];
  if (const Reason reason = plan_outer(packet, *packet.sa, plan); reason != Reason::delivered) return reason;
  if (packet.sa->protocol() == Protocol::ah) return build_ah(packet, plan, identification(), now, operations_[index], set_aside_[index]);
  return build_esp(packet, plan, operations_[index], now);
}

Reason Esp::build_esp(Packet& packet, const Plan& plan, Operation& operation, std::int64_t now) noexcept {
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
  write_outer(packet, sa, plan, outer, front + back, identification());
  std::uint8_t* esp = outer + plan.header_length;
  store32(esp, sa.spi());
  store32(esp + 4, static_cast<std::uint32_t>(grant.sequence));
  if (sa.is_counter_mode()) {
    store64(esp + esp_header_size, grant.iv);
  } else if (sa.counter_schedule() != nullptr) {
    store64(esp + esp_header_size, grant.iv);  // until `hide_counters`
  } else {
    random_.take(esp + esp_header_size, sa.iv_length());
  }
  begin_operation(operation, sa, esp, payload_length);
  if (sa.has_extended_sequence()) operation.cover_upper_half(grant.sequence);

  packet.reshape(outer, front + back);
  return Reason::delivered;
}

// Stage 3 of encapsulation, for an SA that needs it.
void Esp::finish(const Packet& packet, std::size_t index) noexcept {
  if (packet.sa->protocol() == Protocol::ah) {
    restore_header(packet.data, set_aside_[index]);
  } else {
    finish_udp(packet, plans_[index]);
  }
}

void Esp::encapsulate(std::span<Packet> packets, std::int64_t now) noexcept {
  for (; packets.size() > burst_size; packets = packets.subspan(burst_size)) encapsulate_burst(packets.first(burst_size), now);
  encapsulate_burst(packets, now);
}

// Between stages 1 and 2 of encapsulation, for CBC with a time window: the IV is the sender's counter, enciphered.
void Esp::hide_counters(std::size_t count) noexcept {
  counters_.clear();
  for (std::size_t index = 0; index < count; ++index) {
    const Sa& sa = *owners_[index]->sa;
    if (sa.counter_schedule() == nullptr) continue;
    counters_.add(*sa.counter_schedule(), sa.cipher(), index);
    counters_.put(load64(operations_[index].begin + esp_header_size));
  }
  if (counters_.size() == 0) return;
  counters_.seal(crypto_);
  for (std::size_t block = 0; block < counters_.size(); ++block) {
    Operation& operation = operations_[counters_.owner(block)];
    if (!counters_.is_done(block)) owners_[counters_.owner(block)]->reason = Reason::crypto_failure;
    std::memcpy(operation.begin + esp_header_size, counters_.octets(block), operation.payload_offset - esp_header_size);
    std::memcpy(operation.iv.data(), counters_.octets(block), operation.payload_offset - esp_header_size);
  }
}

void Esp::encapsulate_burst(std::span<Packet> packets, std::int64_t now) noexcept {
  RunCounter counter(Way::encrypted);
  std::size_t count = 0;
  for (Packet& packet : packets) {
    if (packet.reason != Reason::delivered) continue;
    packet.reason = packet.sa != nullptr && packet.sa->lifetime().is_over(now) ? Reason::lifetime : build(packet, count, now);
    if (packet.reason == Reason::delivered && !packet.sa->lifetime().spend(operations_[count].charged())) packet.reason = Reason::lifetime;
    if (packet.reason == Reason::delivered) owners_[count++] = &packet;
  }
  hide_counters(count);
  crypto_.seal(std::span(operations_).first(count));
  for (std::size_t index = 0; index < count; ++index) {
    Packet& packet = *owners_[index];
    if (!operations_[index].is_done) packet.reason = Reason::crypto_failure;
    if (packet.reason != Reason::delivered) continue;
    if (packet.sa->needs_finish()) finish(packet, index);
    counter.add(packet.sa, plans_[index].total_length);
  }
}

// Stage 1 of decapsulation: what can be said of a packet before any cryptography.
Reason Esp::parse(const SaSet& sas, Packet& packet, std::size_t index, std::int64_t now) noexcept {
  if (packet.outer.family == Family::none) {
    if (const Reason reason = parse_outer(packet); reason != Reason::delivered) return reason;
  }
  constexpr std::uint32_t ah_fixed_size = 12;
  const bool is_ah = packet.outer.protocol == protocol_ah;
  if (packet.length < (is_ah ? ah_fixed_size : esp_header_size)) return Reason::esp_length;
  Sa* sa = sas.find(load32(packet.data + (is_ah ? 4 : 0)));
  if (sa == nullptr || static_cast<std::uint8_t>(sa->protocol()) != packet.outer.protocol) return Reason::unknown_spi;
  packet.sa = sa;
  if (is_ah) return parse_ah(packet, now, origins_[index], operations_[index], set_aside_[index]);
  return parse_esp(packet, origins_[index], operations_[index], now);
}

Reason Esp::parse_esp(Packet& packet, Origin& origin, Operation& operation, std::int64_t now) noexcept {
  Sa& sa = *packet.sa;
  std::uint8_t* esp = packet.data;
  const std::uint32_t around = esp_header_size + sa.iv_length() + sa.icv_length();
  if (packet.length < around + sa.alignment() || (packet.length - around) % sa.alignment() != 0) return Reason::esp_length;
  if (sa.reaches_before() && !has_room_before(packet)) return Reason::oversize;
  if (const Reason seen = sa.look(origin, load32(esp + 4), esp + esp_header_size, now); seen != Reason::delivered) return seen;

  begin_operation(operation, sa, esp, packet.length - around);
  if (!sa.has_extended_sequence()) return Reason::delivered;
  operation.keep_received(sa.icv_length());
  operation.cover_upper_half(origin.sequence);
  return Reason::delivered;
}

// Between stages 1 and 2 of decapsulation, for CBC with a time window: the counter is in the IV. Returns how many packets go on.
std::size_t Esp::reveal_counters(std::size_t count, std::int64_t now) noexcept {
  counters_.clear();
  for (std::size_t index = 0; index < count; ++index) {
    const Sa& sa = *owners_[index]->sa;
    if (sa.counter_schedule() == nullptr) continue;
    counters_.add(*sa.counter_schedule(), sa.cipher(), index);
    counters_.take(operations_[index].begin + esp_header_size, sa.iv_length());
  }
  if (counters_.size() == 0) return count;
  counters_.open(crypto_);
  for (std::size_t block = 0; block < counters_.size(); ++block) {
    const std::size_t index = counters_.owner(block);
    owners_[index]->reason = counters_.is_counter(block) ? owners_[index]->sa->look_closer(origins_[index], counters_.octets(block), now)
                                                         : Reason::no_sender_id;
  }
  std::size_t kept = 0;
  for (std::size_t index = 0; index < count; ++index) {
    if (owners_[index]->reason != Reason::delivered) continue;
    if (kept != index) {
      operations_[kept] = operations_[index];
      origins_[kept] = origins_[index];
      set_aside_[kept] = set_aside_[index];
      owners_[kept] = owners_[index];
    }
    ++kept;
  }
  return kept;
}

// Stage 3 of decapsulation: what was protected, and the packet that it makes.
Reason Esp::strip(Packet& packet, std::size_t index, std::int64_t now) noexcept {
  const Operation& operation = operations_[index];
  if (!operation.is_done) return Reason::crypto_failure;
  if (!operation.is_authentic) return Reason::authentication;
  if (const Reason seen = packet.sa->accept(origins_[index], now); seen != Reason::delivered) return seen;

  Verified verified;
  if (packet.sa->protocol() == Protocol::ah) {
    restore_header(operation.begin, set_aside_[index]);
    verified = strip_ah(packet);
  } else if (const Reason reason = strip_esp(operation, verified); reason != Reason::delivered) {
    return reason;
  }
  return unwrap(packet, verified);
}

void Esp::decapsulate(const SaSet& sas, std::span<Packet> packets, std::int64_t now) noexcept {
  for (; packets.size() > burst_size; packets = packets.subspan(burst_size)) decapsulate_burst(sas, packets.first(burst_size), now);
  decapsulate_burst(sas, packets, now);
}

void Esp::decapsulate_burst(const SaSet& sas, std::span<Packet> packets, std::int64_t now) noexcept {
  RunCounter counter(Way::decrypted);
  std::size_t count = 0;
  for (Packet& packet : packets) {
    if (packet.reason != Reason::delivered) continue;
    packet.reason = parse(sas, packet, count, now);
    if (packet.reason == Reason::delivered && packet.sa->lifetime().is_over(now)) packet.reason = Reason::lifetime;
    if (packet.reason == Reason::delivered) owners_[count++] = &packet;
  }
  count = reveal_counters(count, now);
  crypto_.open(std::span(operations_).first(count));
  for (std::size_t index = 0; index < count; ++index) {
    Packet& packet = *owners_[index];
    packet.reason = strip(packet, index, now);
    if (operations_[index].is_authentic && !packet.sa->lifetime().spend(operations_[index].charged())) packet.reason = Reason::lifetime;
    if (packet.reason == Reason::delivered) counter.add(packet.sa, packet.length);
  }
}

}  // namespace groupvpn
