// How long an SA may live: octets, packets and time, each with a soft limit, which is told of, and a hard one, which ends it.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>

#include "events.hpp"
#include "reason.hpp"

namespace groupvpn {

// Octets are those that the cipher, or with AH the MAC, is applied to, padding included (RFC 4301 4.4.2.1); both ways count together.
struct Limits {
  static constexpr std::uint64_t no_limit = std::numeric_limits<std::uint64_t>::max();
  static constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();

  std::uint64_t soft_bytes = no_limit, hard_bytes = no_limit;
  std::uint64_t soft_packets = no_limit, hard_packets = no_limit;
  std::int64_t soft_deadline = never, hard_deadline = never;  // boot_milliseconds

  [[nodiscard]] bool has_deadline() const noexcept { return soft_deadline != never || hard_deadline != never; }
  [[nodiscard]] bool counts_volume() const noexcept {
    return soft_bytes != no_limit || hard_bytes != no_limit || soft_packets != no_limit || hard_packets != no_limit;
  }
};

// What a key has been used for in the life of the process, whatever SAs were made of it (ledger.hpp).
struct Usage {
  std::atomic<std::uint64_t> bytes{0};
  std::atomic<std::uint64_t> packets{0};
};

// Any thread may use it. Without limits it costs a packet two loads.
class Lifetime {
 public:
  Lifetime(std::uint32_t spi, const Limits& limits, std::shared_ptr<Usage> usage, std::shared_ptr<EventQueue> events);

  [[nodiscard]] bool is_over(std::int64_t now) noexcept {
    if (is_over_.load(std::memory_order_relaxed)) return true;
    if (now < limits_.hard_deadline) return false;
    end(EventKind::hard_seconds);
    return true;
  }

  // One packet. False: it would go beyond a hard limit, so it must be discarded, and the SA is over.
  bool spend(std::uint64_t octets) noexcept { return !counts_volume_ || spend_counted(octets); }

  [[nodiscard]] const Usage& usage() const noexcept { return *usage_; }

  // Tells once. For the limits of others, such as sequence numbers.
  void tell_once(EventKind kind) noexcept;

  // Tells of deadlines that have come; returns the next one, or `Limits::never`.
  std::int64_t look(std::int64_t now) noexcept;

 private:
  bool spend_counted(std::uint64_t octets) noexcept;
  void end(EventKind kind) noexcept;

  const Limits limits_;
  const bool counts_volume_;
  const std::uint32_t spi_;
  const std::shared_ptr<Usage> usage_;
  const std::shared_ptr<EventQueue> events_;  // may be none
  std::atomic<bool> is_over_{false};
  std::atomic<std::uint32_t> told_{0};  // a bit for each kind
};

}  // namespace groupvpn
