#include "esp.hpp"

#include <algorithm>
#include <cstring>

#include "checksum.hpp"
#include "outer.hpp"

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

Operation& begin_operation(Operation& operation, const Sa& sa, std::uint8_t* esp) noexcept {
  operation.schedule = &sa.schedule();
  operation.cipher = sa.cipher();
  operation.integrity = sa.integrity();
  operation.esp = esp;
  operation.payload_offset = esp_header_size + sa.iv_length();
  operation.is_done = false;
  operation.is_authentic = false;
  return operation;
}

// Salt and explicit IV make the nonce of counter modes (RFC 4106 4, RFC 3686 4); CBC and NULL take the IV as it stands in the packet.
void load_iv(Operation& operation, const Sa& sa) noexcept {
  std::uint8_t* iv = operation.iv.data();
  if (traits(sa.cipher()).is_counter_mode()) {
    std::memcpy(iv, sa.schedule().salt.data(), sa.schedule().salt.size());
    iv += sa.schedule().salt.size();
  }
  std::memcpy(iv, operation.esp + esp_header_size, sa.iv_length());
}

}  // namespace

Esp::Esp() : random_(crypto_), next_identification_(random_identification()) {}

std::uint16_t Esp::random_identification() noexcept {
  std::array<std::uint8_t, 2> octets;
  random_.take(octets.data(), octets.size());
  return load16(octets.data());
}

void Esp::write_outer_header(const Ipv4& inner, std::uint8_t* outer, std::uint32_t length, DontFragment df) noexcept {
  const bool has_df = df == DontFragment::set || (df == DontFragment::copy && inner.has_dont_fragment());
  const std::uint16_t fragment = has_df ? Ipv4::dont_fragment : 0;
  outer[0] = 0x45;
  outer[1] = inner.tos();  // ECN included: RFC 6040 4.1, normal mode
  store16(outer + 2, static_cast<std::uint16_t>(length));
  store16(outer + 4, next_identification_++);
  store16(outer + 6, fragment);
  outer[8] = inner.ttl();
  outer[9] = protocol_esp;
  std::memcpy(outer + 12, inner.data() + 12, 8);
  write_header_checksum(outer);
}

// Stage 1 of encapsulation: everything around the inner packet but the ciphertext and the ICV.
Reason Esp::build(Packet& packet, Operation& operation, std::int64_t now) noexcept {
  if (packet.sa == nullptr) return Reason::no_sa;
  Sa& sa = *packet.sa;
  const std::optional<Ipv4> inner = Ipv4::parse(packet.data, packet.length);
  if (!inner) return Reason::malformed;

  const std::uint32_t inner_length = inner->total_length();  // what the link layer padded stays behind
  const std::uint32_t alignment = sa.alignment();
  const std::uint32_t payload_length = (inner_length + 2 + alignment - 1) / alignment * alignment;
  const std::uint32_t head = static_cast<std::uint32_t>(ipv4_header_size) + esp_header_size + sa.iv_length();
  const std::uint32_t length = head + payload_length + sa.icv_length();
  if (length > ipv4_maximum_size) return Reason::too_big;
  if (packet.headroom < head || packet.length + packet.tailroom < length - head) return Reason::oversize;

  const Grant grant = sa.next_sequence(now);
  if (grant.reason != Reason::delivered) return grant.reason;

  std::uint8_t* trailer = packet.data + inner_length;
  const std::uint32_t pad_length = payload_length - inner_length - 2;
  for (std::uint32_t octet = 1; octet <= pad_length; ++octet) *trailer++ = static_cast<std::uint8_t>(octet);
  *trailer++ = static_cast<std::uint8_t>(pad_length);
  *trailer = protocol_ipip;

  std::uint8_t* outer = packet.data - head;
  std::uint8_t* esp = outer + ipv4_header_size;
  store32(esp, sa.spi());
  store32(esp + 4, grant.sequence);
  if (traits(sa.cipher()).is_counter_mode()) {
    store64(esp + esp_header_size, grant.iv);
  } else if (sa.counter_schedule() != nullptr) {
    store64(esp + esp_header_size, grant.iv);  // until `hide_counters`
  } else {
    random_.take(esp + esp_header_size, sa.iv_length());
  }
  write_outer_header(*inner, outer, length, sa.df());

  begin_operation(operation, sa, esp).payload_length = payload_length;
  load_iv(operation, sa);
  packet.data = outer;
  packet.tailroom = packet.length + packet.tailroom - (length - head);
  packet.length = length;
  packet.headroom -= head;
  return Reason::delivered;
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
    counters_.put(load64(operations_[index].esp + esp_header_size));
  }
  if (counters_.size() == 0) return;
  counters_.seal(crypto_);
  for (std::size_t block = 0; block < counters_.size(); ++block) {
    Operation& operation = operations_[counters_.owner(block)];
    if (!counters_.is_done(block)) owners_[counters_.owner(block)]->reason = Reason::crypto_failure;
    std::memcpy(operation.esp + esp_header_size, counters_.octets(block), operation.payload_offset - esp_header_size);
    std::memcpy(operation.iv.data(), counters_.octets(block), operation.payload_offset - esp_header_size);
  }
}

void Esp::encapsulate_burst(std::span<Packet> packets, std::int64_t now) noexcept {
  RunCounter counter(Way::encrypted);
  std::size_t count = 0;
  for (Packet& packet : packets) {
    if (packet.reason != Reason::delivered) continue;
    packet.reason = build(packet, operations_[count], now);
    if (packet.reason != Reason::delivered) continue;
    inner_lengths_[count] = load16(operations_[count].payload() + 2);
    owners_[count++] = &packet;
  }
  hide_counters(count);
  crypto_.seal(std::span(operations_).first(count));
  for (std::size_t index = 0; index < count; ++index) {
    Packet& packet = *owners_[index];
    if (!operations_[index].is_done) packet.reason = Reason::crypto_failure;
    if (packet.reason == Reason::delivered) counter.add(packet.sa, inner_lengths_[index]);
  }
}

// Stage 1 of decapsulation: what can be said of a packet before any cryptography.
Reason Esp::parse(const SaSet& sas, Packet& packet, Operation& operation, Origin& origin, std::int64_t now) noexcept {
  if (packet.outer.family == Family::none) {
    if (const Reason reason = parse_outer(packet); reason != Reason::delivered) return reason;
  }
  if (packet.outer.protocol != protocol_esp) return Reason::not_esp;
  const std::uint32_t length = packet.length;
  if (length < esp_header_size) return Reason::esp_length;

  std::uint8_t* esp = packet.data;
  Sa* sa = sas.find(load32(esp));
  if (sa == nullptr) return Reason::unknown_spi;
  packet.sa = sa;
  const std::uint32_t around = esp_header_size + sa->iv_length() + sa->icv_length();
  if (length < around + sa->alignment() || (length - around) % sa->alignment() != 0) return Reason::esp_length;
  origin = {load32(esp + 4), sa->sender_of(esp + esp_header_size), 0};
  if (TimedReplay* timed = sa->timed()) {
    if (const Reason judged = timed->judge(origin.sequence, now); judged != Reason::delivered) return judged;
    if (traits(sa->cipher()).is_counter_mode()) {
      origin.number = sa->number_of(esp + esp_header_size);
      if (const Reason seen = timed->look(origin.sender, origin.number, origin.sequence, now); seen != Reason::delivered) return seen;
    }
  } else if (sa->is_replayed(origin.sender, origin.sequence)) {
    return Reason::replayed;
  }

  begin_operation(operation, *sa, esp).payload_length = length - around;
  load_iv(operation, *sa);
  return Reason::delivered;
}

// Between stages 1 and 2 of decapsulation, for CBC with a time window: the counter is in the IV. Returns how many packets go on.
std::size_t Esp::reveal_counters(std::size_t count, std::int64_t now) noexcept {
  counters_.clear();
  for (std::size_t index = 0; index < count; ++index) {
    const Sa& sa = *owners_[index]->sa;
    if (sa.counter_schedule() == nullptr) continue;
    counters_.add(*sa.counter_schedule(), sa.cipher(), index);
    counters_.take(operations_[index].esp + esp_header_size, sa.iv_length());
  }
  if (counters_.size() == 0) return count;
  counters_.open(crypto_);
  for (std::size_t block = 0; block < counters_.size(); ++block) {
    const std::size_t index = counters_.owner(block);
    Sa& sa = *owners_[index]->sa;
    Origin& origin = origins_[index];
    origin.sender = sa.sender_of(counters_.octets(block));
    origin.number = sa.number_of(counters_.octets(block));
    owners_[index]->reason =
        counters_.is_counter(block) ? sa.timed()->look(origin.sender, origin.number, origin.sequence, now) : Reason::no_sender_id;
  }
  std::size_t kept = 0;
  for (std::size_t index = 0; index < count; ++index) {
    if (owners_[index]->reason != Reason::delivered) continue;
    if (kept != index) {
      operations_[kept] = operations_[index];
      origins_[kept] = origins_[index];
      owners_[kept] = owners_[index];
    }
    ++kept;
  }
  return kept;
}

// Stage 3 of decapsulation: from verified plaintext to the inner packet.
Reason Esp::strip(Packet& packet, const Operation& operation, const Origin& origin, std::int64_t now) noexcept {
  if (!operation.is_done) return Reason::crypto_failure;
  if (!operation.is_authentic) return Reason::authentication;
  TimedReplay* timed = packet.sa->timed();
  const Reason seen = timed != nullptr ? timed->accept(origin.sender, origin.number, origin.sequence, now)
                                       : packet.sa->mark_seen(origin.sender, origin.sequence);
  if (seen != Reason::delivered) return seen;

  std::uint8_t* payload = operation.payload();
  const std::uint32_t pad_length = payload[operation.payload_length - 2];
  const std::uint8_t next_header = payload[operation.payload_length - 1];
  if (pad_length + 2 > operation.payload_length) return Reason::padding;
  const std::uint32_t inner_available = operation.payload_length - 2 - pad_length;
  for (std::uint32_t octet = 0; octet < pad_length; ++octet) {
    if (payload[inner_available + octet] != octet + 1) return Reason::padding;
  }
  if (next_header == protocol_none) return Reason::dummy;
  if (next_header != protocol_ipip) return Reason::next_header;

  const std::optional<Ipv4> inner = Ipv4::parse(payload, inner_available);  // octets behind it are TFC padding (RFC 4303 2.7)
  if (!inner) return Reason::inner_malformed;
  const Outer& outer = packet.outer;
  if (outer.family != Family::ipv4 || std::memcmp(payload + 12, outer.source.data(), 4) != 0 ||
      std::memcmp(payload + 16, outer.destination.data(), 4) != 0) {
    return Reason::address_mismatch;
  }

  const Ecn ecn = combine_ecn(inner->tos() & Ecn::mask, outer.tos & Ecn::mask);
  if (ecn.is_dropped) return Reason::congestion;
  if (ecn.codepoint != (inner->tos() & Ecn::mask)) {
    const std::uint16_t before = load16(payload);
    payload[1] = static_cast<std::uint8_t>((payload[1] & ~Ecn::mask) | ecn.codepoint);
    update_header_checksum(payload, before, load16(payload));
  }

  const auto moved = static_cast<std::uint32_t>(payload - packet.data);
  packet.tailroom += packet.length - moved - inner->total_length();
  packet.data = payload;
  packet.length = inner->total_length();
  packet.headroom += moved;
  return Reason::delivered;
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
    packet.reason = parse(sas, packet, operations_[count], origins_[count], now);
    if (packet.reason == Reason::delivered) owners_[count++] = &packet;
  }
  count = reveal_counters(count, now);
  crypto_.open(std::span(operations_).first(count));
  for (std::size_t index = 0; index < count; ++index) {
    Packet& packet = *owners_[index];
    packet.reason = strip(packet, operations_[index], origins_[index], now);
    if (packet.reason == Reason::delivered) counter.add(packet.sa, packet.length);
  }
}

}  // namespace groupvpn
