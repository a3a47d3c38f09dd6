// What Python has to be told without asking: an SA comes to the end of its life, and packets that an auditor wants to know of.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "descriptor.hpp"
#include "named.hpp"
#include "packet.hpp"
#include "source_limit.hpp"

namespace groupvpn {

class Lifetime;

enum class EventKind : std::uint8_t {
  soft_bytes,      // an SA nears its end: time to make another one (RFC 4301 4.4.2.1)
  hard_bytes,      // an SA is over: it neither sends nor receives
  soft_packets,
  hard_packets,
  soft_seconds,
  hard_seconds,
  soft_sequence,   // the sequence numbers, or nonces of the Sender-ID, run out
  hard_sequence,   // none is left: the SA sends no more (RFC 4303 3.3.3)
  unknown_spi,     // a packet for which there is no SA (RFC 4303 3.4.2)
  replayed,        // RFC 4303 3.4.3
  too_old,         // the same by time, and `own_stamp` says what our clock shows
  too_new,
  authentication,  // RFC 4303 3.4.4
  address_mismatch,  // RFC 5374 5.2
};

inline constexpr std::array<Named<EventKind>, 14> event_names = {{
    {EventKind::soft_bytes, "soft_bytes"},
    {EventKind::hard_bytes, "hard_bytes"},
    {EventKind::soft_packets, "soft_packets"},
    {EventKind::hard_packets, "hard_packets"},
    {EventKind::soft_seconds, "soft_seconds"},
    {EventKind::hard_seconds, "hard_seconds"},
    {EventKind::soft_sequence, "soft_sequence"},
    {EventKind::hard_sequence, "hard_sequence"},
    {EventKind::unknown_spi, "unknown_spi"},
    {EventKind::replayed, "replayed"},
    {EventKind::too_old, "too_old"},
    {EventKind::too_new, "too_new"},
    {EventKind::authentication, "authentication"},
    {EventKind::address_mismatch, "address_mismatch"},
}};
static_assert(stands_in_order(event_names) && event_names.back().kind == EventKind::address_mismatch);

constexpr std::string_view name(EventKind kind) noexcept { return event_names[static_cast<std::size_t>(kind)].name; }

// What is below `unknown_spi` is about an SA and has no more than kind, SPI and moment.
struct Event {
  EventKind kind;
  std::uint32_t spi = 0;
  std::int64_t moment = 0;  // boot_milliseconds
  Family family = Family::none;
  Address source{}, destination{};
  std::uint8_t protocol = 0;
  std::uint32_t sequence = 0;  // as the packet carries it
  // Of a packet that an SA with a time window has refused as too old, too new or a replay: our own pseudotime, as we would have stamped it,
  // in ticks of so many milliseconds; and the window in seconds.
  std::uint32_t own_stamp = 0, tick = 0, time_window = 0;
};

// Decides which packets are told of: everyone may send us what does not verify, and nobody shall fill a log with it. One packet of a kind
// from a source in a minute, and ten in a second from all sources together.
class NoticeLimit {
 public:
  static constexpr std::int64_t source_interval = 60'000;  // milliseconds
  static constexpr std::int64_t total_interval = 100;
  static constexpr std::int64_t total_burst = 20;

  bool admits(EventKind kind, const Address& source, std::int64_t now) noexcept { return limit_.admits(source, static_cast<std::uint8_t>(kind), now); }

 private:
  SourceLimit limit_{{.each_source = source_interval, .each = total_interval, .burst = total_burst}};
};

// Any thread tells, one drains. Telling takes a lock, but an SA tells once in its life for each kind, and a packet only on the way to the counter
// of drops. An SA is always heard, whatever arrives: what it has to say takes less memory than the SA itself. Packets have bounded room.
class EventQueue {
 public:
  static constexpr std::size_t room = 1024;  // from the start
  static constexpr std::size_t capacity_for_packets = room / 2;

  EventQueue();  // EngineError

  // Readable while there is something to drain: an event, or a moment that an SA waits for.
  [[nodiscard]] int descriptor() const noexcept { return poll_.number(); }

  // An event (eventfd(2)): it is raised when a thread or queue of a port stops working, so that nobody has to look.
  [[nodiscard]] int alarm() const noexcept { return alarm_.number(); }

  void tell(EventKind kind, std::uint32_t spi) noexcept;
  // A packet as `Esp::decapsulate` has left it, dropped for one of the reasons that have an event; others are passed by.
  void notice(const Packet& packet) noexcept;
  // Ask this one for its deadlines when they come.
  void watch(const std::shared_ptr<Lifetime>& lifetime);

  // How many lifetimes are asked for their deadlines.
  [[nodiscard]] std::size_t watched() {
    const std::lock_guard lock(watched_mutex_);
    return watched_.size();
  }

  std::vector<Event> drain();

  struct Counters {
    std::uint64_t lost;        // events that were not told: the queue had no room for another packet, or the machine no memory
    std::uint64_t suppressed;  // packets that were not told of, because there were too many
  };
  [[nodiscard]] Counters counters() const;

 private:
  void push(const Event& event) noexcept;  // with the lock held
  void look_at_deadlines();

  Descriptor wake_;
  Descriptor alarm_;
  Descriptor timer_;
  Descriptor poll_;

  mutable std::mutex mutex_;
  std::vector<Event> events_;
  NoticeLimit limit_;
  Counters counters_{};

  std::mutex watched_mutex_;
  std::vector<std::weak_ptr<Lifetime>> watched_;
};

}  // namespace groupvpn
