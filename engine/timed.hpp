// Time-based anti-replay: packets carry the group's pseudotime, and windows of exact counters remember no longer than it takes
// (docs/protocol/esp-time-based-replay.md).
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <span>

#include "boot_clock.hpp"
#include "crypto.hpp"
#include "reason.hpp"
#include "replay.hpp"
#include "sender_map.hpp"

namespace groupvpn {

struct TimeWindow {
  std::uint32_t seconds = 0;  // that a packet's stamp may be away from our own pseudotime, either way
  std::uint32_t tick = 10;    // milliseconds for each unit of a stamp
  std::int64_t origin = 0;    // what `boot_milliseconds` showed when pseudotime was 0; before boot it is negative
  std::int64_t since = boot_milliseconds();  // when this SA begins to remember
};

// Far beyond the life of any machine, and near enough that no difference of two moments, nor of a stamp from them, goes beyond 64 bits.
inline constexpr std::int64_t furthest_moment = std::int64_t{1} << 60;  // milliseconds, before boot or after it
// The moment itself; EngineError, with `what` it is, beyond that.
std::int64_t checked_moment(std::int64_t moment, const char* what);

// What one SA knows of time. A stamp is pseudotime in ticks, the low 32 bits of it; inside, ticks are counted in 64 bits, so that
// nothing wraps. Any thread may use it.
class TimedReplay {
 public:
  static constexpr std::uint32_t maximum_seconds = 100;
  static constexpr std::uint32_t maximum_tick = 1000;

  // `window` is in packets, for each sender; 0: packets do not name their sender, and only time counts. EngineError for values out of range.
  TimedReplay(const TimeWindow& time, std::uint32_t window);

  // Whether an SA with these values can go on with what this one knows.
  [[nodiscard]] bool fits(const TimeWindow& time, std::uint32_t window) const noexcept {
    return tick_ == time.tick && reach_ == time.seconds * std::int64_t{1000} / time.tick && window_ == window;
  }
  // Remembers at least so many packets of each sender from now on, unless packets do not name theirs.
  void keep_at_least(std::uint32_t packets);

  [[nodiscard]] std::uint32_t seconds() const noexcept { return seconds_; }
  [[nodiscard]] std::uint32_t tick() const noexcept { return static_cast<std::uint32_t>(tick_); }
  // The key server has told the time anew.
  void set_origin(std::int64_t origin) noexcept { origin_.store(origin, std::memory_order_relaxed); }

  // What a packet that leaves now carries as its sequence number.
  [[nodiscard]] std::uint32_t stamp(std::int64_t now) const noexcept { return static_cast<std::uint32_t>(ticks(now)); }
  // delivered, too_old or too_new. Needs no memory, so it comes first.
  [[nodiscard]] Reason judge(std::uint32_t stamp, std::int64_t now) const noexcept;
  // delivered, replayed or too_old, and nothing changes: none of the numbers is authenticated yet.
  [[nodiscard]] Reason look(std::uint32_t sender, std::uint64_t number, std::uint32_t stamp, std::int64_t now) noexcept;
  // The same for an authenticated packet, which is remembered; too_many_senders where there is no room to.
  Reason accept(std::uint32_t sender, std::uint64_t number, std::uint32_t stamp, std::int64_t now);

  [[nodiscard]] std::size_t senders() noexcept;
  [[nodiscard]] std::size_t octets() noexcept;
  // How often all senders were looked at to find those that can be given up.
  [[nodiscard]] std::uint64_t scans() noexcept;

 private:
  struct Sender {
    Sender(std::uint32_t size, std::uint64_t number, std::int64_t floor_then) : window(size), first(number), floor(floor_then) {}
    ReplayWindow window;
    std::uint64_t first;      // number with which the window was made: of those below it only what is stamped above the floor was not seen before
    std::int64_t floor;       // of that moment, in ticks
    std::int64_t newest = 0;  // stamp in ticks
  };

  [[nodiscard]] std::int64_t ticks(std::int64_t now) const noexcept;
  // The moment that a stamp means: the one next to ours.
  [[nodiscard]] std::int64_t moment(std::uint32_t stamp, std::int64_t own) const noexcept {
    return own + static_cast<std::int32_t>(stamp - static_cast<std::uint32_t>(own));
  }
  [[nodiscard]] static bool may_have_been_seen(const Sender& sender, std::uint64_t number, std::int64_t sent) noexcept {
    return number < sender.first && sent <= sender.floor;
  }
  bool make_room(std::int64_t oldest);

  const std::uint32_t seconds_;
  const std::int64_t tick_;
  const std::int64_t reach_;  // ticks
  const std::uint32_t window_;  // that was asked for
  std::atomic<std::int64_t> origin_;

  std::mutex mutex_;
  // Whoever has no window here, and a stamp that is not above this, may have been seen: by an earlier life of the SA, or before its window
  // was given up.
  std::int64_t floor_;
  std::uint32_t kept_;  // window of each sender, from its next packet on
  SenderMap<Sender> senders_;
  std::uint64_t scans_ = 0;
  // No sender's `newest` is below this, so while packets as old are inside the window none can be given up, and nobody looks for one: that takes
  // as long as thousands of packets.
  std::int64_t oldest_kept_ = std::numeric_limits<std::int64_t>::max();
  // What was the oldest moment inside the window when somebody looked last, and how far it moves on before the next one looks: a member that has one sender expire
  // with every tick must not have us look at all of them as often.
  std::int64_t looked_at_ = std::numeric_limits<std::int64_t>::max();
  const std::int64_t pause_;  // ticks
};

// The counters of a burst whose cipher has no place for them in clear: each is one block, enciphered with the SA's cipher under a key of
// its own, and stands where the IV does. An IV that nobody can foresee comes of it (SP 800-38A appendix C), and a receiver gets the
// counter back.
class CounterBlocks {
 public:
  // The key for the blocks of an SA with this key. EngineError if the library cannot derive it.
  static void prepare(Schedule& schedule, Cipher cipher, std::span<const std::uint8_t> encryption_key, Crypto& crypto);

  void clear() noexcept { count_ = 0; }
  [[nodiscard]] std::size_t size() const noexcept { return count_; }
  // `owner` is for the caller, to find the packet again.
  void add(const Schedule& schedule, Cipher cipher, std::size_t owner) noexcept;
  void put(std::uint64_t counter) noexcept;                // into the block that was added last
  void take(const std::uint8_t* iv, std::size_t length) noexcept;  // the same, from a packet
  void seal(Crypto& crypto) noexcept { crypto.seal(operations()); }
  void open(Crypto& crypto) noexcept { crypto.open(operations()); }

  [[nodiscard]] std::size_t owner(std::size_t index) const noexcept { return owners_[index]; }
  [[nodiscard]] bool is_done(std::size_t index) const noexcept { return operations_[index].is_done; }
  [[nodiscard]] const std::uint8_t* octets(std::size_t index) const noexcept { return blocks_[index].data(); }
  // After `open`: whether the block is one that `put` has made, under this key.
  [[nodiscard]] bool is_counter(std::size_t index) const noexcept;

 private:
  std::span<Operation> operations() noexcept { return std::span(operations_).first(count_); }

  std::size_t count_ = 0;
  std::array<Operation, Crypto::maximum_burst> operations_;
  std::array<std::size_t, Crypto::maximum_burst> owners_;
  alignas(16) std::array<std::array<std::uint8_t, 16>, Crypto::maximum_burst> blocks_;
};

}  // namespace groupvpn
