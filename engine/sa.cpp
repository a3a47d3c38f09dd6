#include "sa.hpp"

#include <algorithm>
#include <limits>
#include <new>

#include "error.hpp"
#include "ledger.hpp"
#include "packet.hpp"

namespace groupvpn {
namespace {

// RFC 4303 3.3.3: where the receiver checks the sequence number the sender stops before it repeats; where it does not, the number on the
// wire goes round. A counter-mode IV must not repeat in any case (RFC 6054 5), nor may its counter run into the Sender-ID.
std::uint64_t sequence_limit_of(const SaParameters& parameters) {
  if (parameters.replay_window != 0 && !parameters.time && !parameters.extended_sequence) return std::numeric_limits<std::uint32_t>::max();
  if (parameters.has_counter_in_iv()) {
    return parameters.sender_id_bits == 0 ? std::numeric_limits<std::uint64_t>::max() - 1
                                          : (std::uint64_t{1} << (64 - parameters.sender_id_bits)) - 1;
  }
  return std::numeric_limits<std::uint64_t>::max() - 1;
}

// How far from its end a sequence is said to run out: a sixteenth of a 32-bit one lasts minutes at a million packets in a second, and the last
// 2^32 of a longer one last an hour.
std::uint64_t soft_sequence_of(std::uint64_t limit) { return limit - std::min(limit / 16, std::uint64_t{1} << 32); }

void check(const SaParameters& parameters) {
  if (parameters.spi < 256) throw EngineError("SPI " + std::to_string(parameters.spi) + " is reserved, the first is 256 (RFC 4303 2.1)");
  if (parameters.sender_id_bits > Sa::maximum_sender_id_bits) {
    throw EngineError("a Sender-ID of " + std::to_string(parameters.sender_id_bits) + " bits is longer than 32");
  }
  if (parameters.sender_id && std::uint64_t{*parameters.sender_id} >> parameters.sender_id_bits != 0) {
    throw EngineError("Sender-ID " + std::to_string(*parameters.sender_id) + " does not fit " + std::to_string(parameters.sender_id_bits) + " bits");
  }
  if (parameters.replay_window > Sa::maximum_replay_window) {
    throw EngineError("a replay window of " + std::to_string(parameters.replay_window) + " packets is larger than 4096");
  }
}

// What does not go together, whatever the algorithms.
void check_form(const SaParameters& parameters) {
  if (parameters.protocol == Protocol::ah) {
    if (parameters.cipher != Cipher::null) throw EngineError("AH does not encrypt: its cipher is \"null\" (RFC 4302 1)");
    if (parameters.udp) throw EngineError("AH cannot be put into UDP: a NAT would break its ICV (RFC 3948 1)");
  }
  if (parameters.udp && parameters.udp->destination == 0) throw EngineError("UDP has no destination port 0 (RFC 768)");
  if (parameters.mode == Mode::transport && parameters.endpoints) {
    throw EngineError("transport mode keeps the header of the packet, so it takes no end points (RFC 4301 4.1)");
  }
  if (parameters.extended_sequence) {
    if (parameters.time) throw EngineError("a time window takes the place that extended sequence numbers need");
    if (parameters.replay_window == 0) {
      throw EngineError("extended sequence numbers need a replay window, which tells their upper half (RFC 4303 3.4.3)");
    }
    if (traits(parameters.cipher).is_counter_mode() && parameters.sender_id_bits != 0) {
      throw EngineError("extended sequence numbers are for an SA with one sender: its Sender-ID has 0 bits (RFC 4303 2.2)");
    }
  }
}

std::shared_ptr<KeyMemory> apart(const SaParameters& parameters) {
  auto memory = std::make_shared<KeyMemory>();
  if (parameters.replay_window != 0) memory->windows.resize(parameters.replay_window);
  return memory;
}

// What an SA with this key has seen before this one was made goes on counting, by the clock of today. Another window begins anew, with a floor.
std::shared_ptr<TimedReplay> timed_memory(const SaParameters& parameters, KeyMemory& memory) {
  const std::uint32_t window = parameters.has_counter_in_iv() ? parameters.replay_window : 0;
  const std::lock_guard lock(memory.mutex);
  if (memory.timed && memory.timed->fits(*parameters.time, window)) {
    memory.timed->set_origin(checked_moment(parameters.time->origin, "the origin of pseudotime"));
  } else {
    memory.timed = std::make_shared<TimedReplay>(*parameters.time, window);
  }
  return memory.timed;
}

}  // namespace

Sa::Sa(const SaParameters& parameters)
    : spi_((check(parameters), check_form(parameters), parameters.spi)),
      protocol_(parameters.protocol),
      mode_(parameters.mode),
      endpoints_(parameters.endpoints.value_or(Endpoints{})),
      udp_(parameters.udp),
      tos_(parameters.tos),
      extended_sequence_(parameters.extended_sequence),
      cipher_(parameters.cipher),
      integrity_(parameters.integrity),
      is_counter_mode_(traits(cipher_).is_counter_mode()),
      iv_length_(traits(cipher_).iv),
      icv_length_(static_cast<std::uint8_t>(traits(cipher_).icv + traits(integrity_).icv)),
      alignment_(traits(cipher_).alignment),
      df_(parameters.df),
      may_send_(!parameters.has_counter_in_iv() || parameters.sender_id.has_value()),
      has_counter_in_iv_(parameters.has_counter_in_iv()),
      sequence_limit_(sequence_limit_of(parameters)),
      tells_senders_(parameters.tells_senders()),
      soft_sequence_(soft_sequence_of(sequence_limit_)),
      checks_replay_(parameters.replay_window != 0 && !parameters.time),
      counters_(parameters.counters ? parameters.counters : std::make_shared<SaCounters>()) {
  Crypto crypto;
  crypto.prepare(schedule_, cipher_, parameters.encryption_key, integrity_, parameters.integrity_key, parameters.salt);
  sender_id_in_iv_ = parameters.begin_of_iv();
  if (parameters.hides_counter()) {
    counter_schedule_ = std::make_unique<Schedule>();
    CounterBlocks::prepare(*counter_schedule_, cipher_, parameters.encryption_key, crypto);
  }
  sequence_ = KeyLedger::instance().sequence_of(parameters, crypto);
  memory_ = parameters.is_apart ? apart(parameters) : KeyLedger::instance().memory_of(parameters, crypto);
  if (parameters.time) timed_ = timed_memory(parameters, *memory_);
  if (wants_order()) order_ = &sequence_->order;
  lifetime_ = std::make_shared<Lifetime>(spi_, parameters.limits, std::shared_ptr<Usage>(memory_, &memory_->usage), parameters.events);
  if (parameters.events && parameters.limits.has_deadline()) parameters.events->watch(lifetime_);
}

std::uint32_t Sa::inner_mtu(std::uint32_t mtu, Family inner, std::uint32_t header) const noexcept {
  const Family outer = endpoints_.family == Family::none ? inner : endpoints_.family;
  const bool is_tunnel = mode_ == Mode::tunnel;
  mtu = std::min(mtu, maximum_length(outer));
  if (is_tunnel || header == 0) header = static_cast<std::uint32_t>(outer == Family::ipv6 ? ipv6_header_size : ipv4_header_size);
  const std::uint32_t kept = is_tunnel ? 0 : header;  // of the packet, outside of what is protected
  if (protocol_ == Protocol::ah) {
    const std::uint32_t around = header + ah_length(outer);
    return mtu > around ? mtu - around + kept : 0;
  }
  const std::uint32_t around = header + (udp_ ? udp_header_size : 0) + esp_header_size + iv_length_ + icv_length_;
  if (mtu < around + alignment_) return 0;
  return (mtu - around) / alignment_ * alignment_ - 2 + kept;  // pad length and next header are inside
}

Grant Sa::exhausted() noexcept {
  lifetime_->tell_once(EventKind::soft_sequence);
  lifetime_->tell_once(EventKind::hard_sequence);
  return {Reason::sequence_exhausted, 0, 0};
}

Grant Sa::next_sequence(std::int64_t now) noexcept {
  if (!may_send_) return {Reason::no_sender_id, 0, 0};
  // Never beyond the limit, not even for a moment: another SA of this key may have a higher one, and a number that it took meanwhile would
  // come again.
  std::uint64_t last = sequence_->last.load(std::memory_order_relaxed);
  do {
    if (last >= std::min(sequence_limit_, sequence_->limit.load(std::memory_order_relaxed))) [[unlikely]] return exhausted();
  } while (!sequence_->last.compare_exchange_weak(last, last + 1));
  const std::uint64_t number = last + 1;
  if (number > sequence_->limit.load()) [[unlikely]] return exhausted();  // it has become another Sender-ID's (KeyLedger::sequence_at)
  if (number >= soft_sequence_) [[unlikely]] lifetime_->tell_once(EventKind::soft_sequence);
  return {Reason::delivered, timed_ ? timed_->stamp(now) : number, sender_id_in_iv_ | number};
}

Reason Sa::look(Origin& origin, std::uint32_t low, const std::uint8_t* iv, std::int64_t now) noexcept {
  origin = {low, 0, 0};
  if (timed_) {
    if (const Reason judged = timed_->judge(low, now); judged != Reason::delivered) return judged;
    return has_counter_in_iv_ && counter_schedule_ == nullptr ? look_closer(origin, iv, now) : Reason::delivered;
  }
  if (!checks_replay_) return Reason::delivered;
  if (tells_senders_) origin.sender = sender_of(iv);
  const std::lock_guard lock(memory_->mutex);
  if (extended_sequence_) origin.sequence = memory_->windows.extend(origin.sender, low);
  return memory_->windows.is_acceptable(origin.sender, origin.sequence) ? Reason::delivered : Reason::replayed;
}

Reason Sa::look_closer(Origin& origin, const std::uint8_t* counter, std::int64_t now) noexcept {
  origin.sender = sender_of(counter);
  origin.number = number_of(counter);
  return timed_->look(origin.sender, origin.number, static_cast<std::uint32_t>(origin.sequence), now);
}

// A sender for whom there is no memory is refused like one for whom there is no room.
Reason Sa::accept(const Origin& origin, std::int64_t now) noexcept try {
  if (timed_) return timed_->accept(origin.sender, origin.number, static_cast<std::uint32_t>(origin.sequence), now);
  if (!checks_replay_) return Reason::delivered;
  const std::lock_guard lock(memory_->mutex);
  return memory_->windows.accept(origin.sender, origin.sequence);
} catch (const std::bad_alloc&) {
  return Reason::too_many_senders;
}

void Sa::keep_at_least(std::uint32_t packets) {
  if (timed_) return timed_->keep_at_least(packets);
  if (!checks_replay_) return;
  const std::lock_guard lock(memory_->mutex);
  memory_->windows.keep_at_least(packets);
}

void Sa::count_encrypted(std::uint64_t packets, std::uint64_t octets) noexcept {
  counters_->encrypted_packets.fetch_add(packets, std::memory_order_relaxed);
  counters_->encrypted_bytes.fetch_add(octets, std::memory_order_relaxed);
}

void Sa::count_decrypted(std::uint64_t packets, std::uint64_t octets) noexcept {
  counters_->decrypted_packets.fetch_add(packets, std::memory_order_relaxed);
  counters_->decrypted_bytes.fetch_add(octets, std::memory_order_relaxed);
}

SaSet::SaSet(std::vector<std::shared_ptr<Sa>> sas, const Tags& tags) : sas_(std::move(sas)) {
  std::size_t size = 2;
  while (size < 2 * sas_.size() + 1) size *= 2;
  mask_ = size - 1;
  table_.assign(size, {});
  for (const std::shared_ptr<Sa>& sa : sas_) {
    std::size_t slot = hash(sa->spi());
    for (; table_[slot & mask_].sa != nullptr; ++slot) {
      if (table_[slot & mask_].sa == sa.get()) break;
      if (table_[slot & mask_].sa->spi() == sa->spi()) throw EngineError("two SAs have SPI " + std::to_string(sa->spi()));
    }
    const auto tag = tags.find(sa->spi());
    table_[slot & mask_] = {sa.get(), tag != tags.end() ? tag->second : Tag{}};
  }
}

}  // namespace groupvpn
