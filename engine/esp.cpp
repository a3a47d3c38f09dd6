#include "esp.hpp"

#include <cstring>

namespace groupvpn {
namespace {

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

}  // namespace

Esp::Esp() : random_(crypto_), identifications_(random_identification()) {}

std::uint16_t Esp::random_identification() noexcept {
  std::array<std::uint8_t, 2> octets;
  random_.take(octets.data(), octets.size());
  return load16(octets.data());
}

// Stage 1 of encapsulation: everything but the ciphertext and the ICV.
Reason Esp::build(Packet& packet, std::size_t index, std::int64_t now) noexcept {
  if (packet.sa == nullptr) return Reason::no_sa;
  Plan& plan = plans_[index];
  if (const Reason reason = plan_outer(packet, *packet.sa, plan); reason != Reason::delivered) return reason;
  if (packet.sa->protocol() == Protocol::ah) return build_ah(packet, plan, now, identifications_, operations_[index], saved_headers_[index]);
  return build_esp(packet, plan, now, identifications_, operations_[index], random_);
}

// Stage 3 of encapsulation, for an SA that needs it.
void Esp::finish(const Packet& packet, std::size_t index) noexcept {
  if (packet.sa->protocol() == Protocol::ah) {
    restore_header(packet.data, saved_headers_[index]);
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
  const bool is_ah = packet.outer.protocol == protocol_ah;
  if (packet.length < (is_ah ? ah_fixed_size : esp_header_size)) return Reason::esp_length;
  Sa* sa = sas.find(load32(packet.data + (is_ah ? ah_at::spi : esp_at::spi)));
  if (sa == nullptr || static_cast<std::uint8_t>(sa->protocol()) != packet.outer.protocol) return Reason::unknown_spi;
  packet.sa = sa;
  if (is_ah) return parse_ah(packet, now, origins_[index], operations_[index], saved_headers_[index]);
  return parse_esp(packet, now, origins_[index], operations_[index]);
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
      saved_headers_[kept] = saved_headers_[index];
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
  if (!packet.sa->lifetime().spend(operation.charged())) return Reason::lifetime;

  Verified verified;
  const bool is_ah = packet.sa->protocol() == Protocol::ah;
  const Reason reason = is_ah ? strip_ah(packet, operation, saved_headers_[index], verified) : strip_esp(operation, verified);
  return reason == Reason::delivered ? unwrap(packet, verified) : reason;
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
    if (packet.reason == Reason::delivered) counter.add(packet.sa, packet.length);
  }
}

}  // namespace groupvpn
