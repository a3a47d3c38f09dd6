#include "ledger.hpp"

#include <cstring>

#include "packet.hpp"
#include "sa.hpp"

namespace groupvpn {

SequenceLedger& SequenceLedger::instance() {
  static SequenceLedger ledger;
  return ledger;
}

std::shared_ptr<std::atomic<std::uint64_t>> SequenceLedger::counter_of(const SaParameters& parameters, Crypto& crypto) {
  std::array<std::uint8_t, 128> text{};  // at most 12 + 32 + 64 + 4 octets; the algorithm fixes the length of each part
  std::size_t length = 0;
  const auto append = [&](const void* octets, std::size_t size) {
    if (size != 0) std::memcpy(text.data() + length, octets, size);
    length += size;
  };
  const std::uint8_t algorithms[4] = {static_cast<std::uint8_t>(parameters.cipher), static_cast<std::uint8_t>(parameters.integrity),
                                      static_cast<std::uint8_t>(parameters.sender_id_bits), parameters.sender_id ? std::uint8_t{1} : std::uint8_t{0}};
  const std::uint32_t sender_id = parameters.sender_id.value_or(0);
  append(algorithms, sizeof algorithms);
  append(&sender_id, sizeof sender_id);
  append(parameters.encryption_key.data(), parameters.encryption_key.size());
  append(parameters.integrity_key.data(), parameters.integrity_key.size());
  append(parameters.salt.data(), parameters.salt.size());
  const std::array<std::uint8_t, 32> digest = crypto.sha256({text.data(), length});
  explicit_bzero(text.data(), text.size());

  const std::lock_guard lock(mutex_);
  std::shared_ptr<std::atomic<std::uint64_t>>& counter = counters_[digest];
  if (!counter) counter = std::make_shared<std::atomic<std::uint64_t>>(0);
  std::uint64_t last = counter->load(std::memory_order_relaxed);
  while (last < parameters.last_sequence && !counter->compare_exchange_weak(last, parameters.last_sequence)) {
  }
  return counter;
}

}  // namespace groupvpn
