#include "ledger.hpp"

#include <cstring>

#include "packet.hpp"
#include "sa.hpp"

namespace groupvpn {
namespace {

// Stands for keys without being one. `head` tells what of the keys is meant.
std::array<std::uint8_t, 32> digest_of(const SaParameters& parameters, const std::array<std::uint8_t, 12>& head, Crypto& crypto) {
  std::array<std::uint8_t, 128> text{};  // at most 12 + 32 + 64 + 4 octets; the algorithm fixes the length of each part
  std::size_t length = 0;
  const auto append = [&](std::span<const std::uint8_t> octets) {
    if (!octets.empty()) std::memcpy(text.data() + length, octets.data(), octets.size());
    length += octets.size();
  };
  append(head);
  append(parameters.encryption_key);
  append(parameters.integrity_key);
  append(parameters.salt);
  const std::array<std::uint8_t, 32> digest = crypto.sha256({text.data(), length});
  explicit_bzero(text.data(), text.size());
  return digest;
}

std::array<std::uint8_t, 12> head_of(const SaParameters& parameters, char what, std::uint32_t number, bool has_number) {
  std::array<std::uint8_t, 12> head{};
  head[0] = static_cast<std::uint8_t>(parameters.cipher);
  head[1] = static_cast<std::uint8_t>(parameters.integrity);
  head[2] = static_cast<std::uint8_t>(parameters.sender_id_bits);
  head[3] = has_number ? 1 : 0;
  store32(head.data() + 4, number);
  head[8] = static_cast<std::uint8_t>(what);
  head[9] = static_cast<std::uint8_t>(parameters.protocol);
  return head;
}

}  // namespace

KeyLedger& KeyLedger::instance() {
  static KeyLedger ledger;
  return ledger;
}

std::shared_ptr<std::atomic<std::uint64_t>> KeyLedger::sequence_of(const SaParameters& parameters, Crypto& crypto) {
  const Digest digest = digest_of(parameters, head_of(parameters, 's', parameters.sender_id.value_or(0), parameters.sender_id.has_value()), crypto);
  const std::lock_guard lock(mutex_);
  std::shared_ptr<std::atomic<std::uint64_t>>& counter = sequences_[digest];
  if (!counter) counter = std::make_shared<std::atomic<std::uint64_t>>(0);
  std::uint64_t last = counter->load(std::memory_order_relaxed);
  while (last < parameters.last_sequence && !counter->compare_exchange_weak(last, parameters.last_sequence)) {
  }
  return counter;
}

std::shared_ptr<KeyMemory> KeyLedger::memory_of(const SaParameters& parameters, Crypto& crypto) {
  const Digest digest = digest_of(parameters, head_of(parameters, 'm', parameters.spi, true), crypto);
  const std::lock_guard lock(mutex_);
  Kept& kept = memories_[digest];
  if (!kept.memory) kept.memory = std::make_shared<KeyMemory>();
  kept.made = ++made_;
  const std::shared_ptr<KeyMemory> memory = kept.memory;
  if (parameters.replay_window != 0) {
    const std::lock_guard windows_lock(memory->mutex);
    memory->windows.resize(parameters.replay_window);
  }
  forget_idle();
  return memory;
}

void KeyLedger::forget_idle() {
  const auto is_idle = [](const Kept& kept) { return kept.memory.use_count() == 1; };  // others come by one only through us
  std::size_t windows = 0;
  for (const auto& [digest, kept] : memories_) {
    if (is_idle(kept)) windows += kept.memory->senders();
  }
  while (windows > idle_windows) {
    auto oldest = memories_.end();
    for (auto item = memories_.begin(); item != memories_.end(); ++item) {
      const bool counts = is_idle(item->second) && item->second.memory->senders() != 0;
      if (counts && (oldest == memories_.end() || item->second.made < oldest->second.made)) oldest = item;
    }
    windows -= oldest->second.memory->senders();
    memories_.erase(oldest);
  }
}

}  // namespace groupvpn
