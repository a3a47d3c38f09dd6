#include "lifetime.hpp"

namespace groupvpn {

Lifetime::Lifetime(std::uint32_t spi, const Limits& limits, std::shared_ptr<Usage> usage, std::shared_ptr<EventQueue> events)
    : limits_(limits), counts_volume_(limits.counts_volume()), spi_(spi), usage_(std::move(usage)), events_(std::move(events)) {}

void Lifetime::tell_once(EventKind kind) noexcept {
  const std::uint32_t bit = std::uint32_t{1} << static_cast<unsigned>(kind);
  if ((told_.load(std::memory_order_relaxed) & bit) != 0 || (told_.fetch_or(bit, std::memory_order_relaxed) & bit) != 0) return;
  if (events_) events_->tell(kind, spi_);
}

void Lifetime::end(EventKind kind) noexcept {
  is_over_.store(true, std::memory_order_relaxed);
  tell_once(kind);
}

// A packet that does not fit gives back what it took. Meanwhile another thread may find less than there is, and end the SA for a packet that
// would have fitted: it ends anyway.
bool Lifetime::spend_counted(std::uint64_t octets) noexcept {
  const std::uint64_t bytes = usage_->bytes.fetch_add(octets, std::memory_order_relaxed) + octets;
  const std::uint64_t packets = usage_->packets.fetch_add(1, std::memory_order_relaxed) + 1;
  if (bytes >= limits_.soft_bytes) tell_once(EventKind::soft_bytes);
  if (packets >= limits_.soft_packets) tell_once(EventKind::soft_packets);
  if (bytes < limits_.hard_bytes && packets < limits_.hard_packets) return true;
  end(bytes >= limits_.hard_bytes ? EventKind::hard_bytes : EventKind::hard_packets);
  if (bytes <= limits_.hard_bytes && packets <= limits_.hard_packets) return true;
  usage_->bytes.fetch_sub(octets, std::memory_order_relaxed);
  usage_->packets.fetch_sub(1, std::memory_order_relaxed);
  return false;
}

std::int64_t Lifetime::look(std::int64_t now) noexcept {
  if (now >= limits_.soft_deadline) tell_once(EventKind::soft_seconds);
  if (now >= limits_.hard_deadline) {
    end(EventKind::hard_seconds);
    return Limits::never;
  }
  return now < limits_.soft_deadline && limits_.soft_deadline < limits_.hard_deadline ? limits_.soft_deadline : limits_.hard_deadline;
}

}  // namespace groupvpn
