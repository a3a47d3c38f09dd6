#include "ledger.hpp"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <string>

#include "error.hpp"
#include "packet.hpp"
#include "sa.hpp"

namespace groupvpn {
namespace {

using Digest = std::array<std::uint8_t, 32>;
using Head = std::array<std::uint8_t, 12>;

// Stands for keys without being one. `head` tells what the keys are for.
Digest digest_of(const Head& head, std::initializer_list<std::span<const std::uint8_t>> keys, Crypto& crypto) {
  std::array<std::uint8_t, 128> text{};  // at most 12 + 32 + 64 + 4 octets; the algorithm fixes the length of each part
  std::size_t length = 0;
  const auto append = [&](std::span<const std::uint8_t> octets) {
    if (octets.size() > text.size() - length) {
      explicit_bzero(text.data(), text.size());
      throw EngineError("keys of " + std::to_string(octets.size()) + " octets are no algorithm's");
    }
    if (!octets.empty()) std::memcpy(text.data() + length, octets.data(), octets.size());
    length += octets.size();
  };
  append(head);
  for (const std::span<const std::uint8_t> key : keys) append(key);
  const Digest digest = crypto.sha256({text.data(), length});
  explicit_bzero(text.data(), text.size());
  return digest;
}

Head head_of(const SaParameters& parameters, char what, std::uint32_t number, bool has_number) {
  Head head{};
  head[0] = static_cast<std::uint8_t>(parameters.cipher);
  head[1] = static_cast<std::uint8_t>(parameters.integrity);
  head[2] = parameters.tells_senders() ? 1 : 0;  // not how wide a Sender-ID is, which a member may hear of later
  head[3] = has_number ? 1 : 0;
  store32(head.data() + 4, number);
  head[8] = static_cast<std::uint8_t>(what);
  head[9] = static_cast<std::uint8_t>(parameters.protocol);
  return head;
}

// Of the nonces that an SA takes: not its cipher, nor how long its ICV is, nor how wide its Sender-ID.
Head head_of_nonces(const SaParameters& parameters) {
  Head head{};
  head[0] = static_cast<std::uint8_t>(parameters.encryption_key.size());
  head[3] = parameters.sender_id ? 1 : 0;
  head[8] = static_cast<std::uint8_t>('n');
  return head;
}

// Beyond the last IV there is none.
std::uint64_t reach(std::uint64_t begin, const Sequence& sequence) noexcept {
  const std::uint64_t last = sequence.last.load();
  return begin + std::min(last, ~std::uint64_t{0} - begin);
}

void raise(Sequence& sequence, std::uint64_t last) noexcept {
  std::uint64_t now = sequence.last.load();
  while (now < last && !sequence.last.compare_exchange_weak(now, last)) {
  }
}

}  // namespace

KeyLedger& KeyLedger::instance() {
  static KeyLedger ledger;
  return ledger;
}

std::shared_ptr<Sequence> KeyLedger::sequence_of(const SaParameters& parameters, Crypto& crypto) {
  if (parameters.has_counter_in_iv()) {
    const Digest digest = digest_of(head_of_nonces(parameters), {parameters.encryption_key, parameters.salt}, crypto);
    const std::lock_guard lock(mutex_);
    return sequence_at(sequences_[digest], parameters.begin_of_iv(), parameters.last_sequence);
  }
  const Head head = head_of(parameters, 's', parameters.sender_id.value_or(0), parameters.sender_id.has_value());
  const Digest digest = digest_of(head, {parameters.encryption_key, parameters.integrity_key, parameters.salt}, crypto);
  const std::lock_guard lock(mutex_);
  return sequence_at(sequences_[digest], 0, parameters.last_sequence);
}

// A Sender-ID that is wider than another one may begin among the numbers of that. The other one then ends there, and this one begins behind
// what the other one has used up. A thread that takes a number looks at the limit behind that (`Sa::next_sequence`), and the limit
// is set here before the number is looked at: one of the two sees the other.
std::shared_ptr<Sequence> KeyLedger::sequence_at(Sequences& sequences, std::uint64_t begin, std::uint64_t last) {
  const auto [item, is_new] = sequences.try_emplace(begin);
  auto from = item;
  if (is_new) {
    item->second = std::make_shared<Sequence>();
    if (const auto next = std::next(item); next != sequences.end()) item->second->limit = next->first - begin - 1;
    if (item != sequences.begin()) {
      from = std::prev(item);
      from->second->limit = begin - from->first - 1;
    }
  }
  raise(*item->second, last);
  for (auto next = std::next(from); next != sequences.end(); from = next++) {
    if (const std::uint64_t used = reach(from->first, *from->second); used >= next->first) raise(*next->second, used - next->first);
  }
  return item->second;
}

std::shared_ptr<KeyMemory> KeyLedger::memory_of(const SaParameters& parameters, Crypto& crypto) {
  const Head head = head_of(parameters, 'm', parameters.spi, true);
  const Digest digest = digest_of(head, {parameters.encryption_key, parameters.integrity_key, parameters.salt}, crypto);
  const std::lock_guard lock(mutex_);
  Kept& kept = memories_[digest];
  if (!kept.memory) kept.memory = std::make_shared<KeyMemory>();
  kept.made = ++made_;
  const std::shared_ptr<KeyMemory> memory = kept.memory;
  if (parameters.replay_window != 0) {
    const std::lock_guard windows_lock(memory->mutex);
    memory->windows.resize(parameters.replay_window);
  }
  const auto is_in_use = [](const Kept& one) { return one.memory.use_count() > 1; };  // others come by one only through us
  most_in_use_ = std::max(most_in_use_, static_cast<std::size_t>(std::ranges::count_if(memories_, is_in_use, &decltype(memories_)::value_type::second)));
  forget_idle(idle_octets, [&](const Kept& one) { return is_in_use(one) ? 0 : one.memory->octets(); });
  forget_idle(most_idle(), [&](const Kept& one) { return is_in_use(one) ? std::size_t{0} : std::size_t{1}; });
  return memory;
}

// Those that were made first, until what is left weighs no more than `bound`, or is the one that was made last: its windows may have been widened
// beyond that.
template <typename Weight>
void KeyLedger::forget_idle(std::size_t bound, Weight weight) {
  std::size_t sum = 0;
  for (const auto& [digest, kept] : memories_) sum += weight(kept);
  while (sum > bound) {
    auto oldest = memories_.end(), latest = memories_.end();
    for (auto item = memories_.begin(); item != memories_.end(); ++item) {
      if (weight(item->second) == 0) continue;
      if (oldest == memories_.end() || item->second.made < oldest->second.made) oldest = item;
      if (latest == memories_.end() || item->second.made > latest->second.made) latest = item;
    }
    if (oldest == latest) return;
    sum -= weight(oldest->second);
    memories_.erase(oldest);
  }
}

}  // namespace groupvpn
