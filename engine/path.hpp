// What the outbound and the inbound path of a port have in common: the SAs in force, counters, and the wish to stop.
#pragma once

#include <sys/eventfd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "descriptor.hpp"
#include "error.hpp"
#include "reason.hpp"
#include "sa.hpp"

namespace groupvpn {

// The SAs with which one outbound queue encrypts: one for each worker, which has a Sender-ID of its own (RFC 6054 2), or fewer, which workers share.
using Senders = std::vector<std::shared_ptr<Sa>>;

// All SAs of a port: those that decrypt, and for each outbound queue those that encrypt (or none).
struct SaTable {
  SaSet inbound;
  std::vector<Senders> outbound;

  // What a worker encrypts with, or null.
  [[nodiscard]] Sa* sender(std::size_t queue, std::size_t worker) const noexcept {
    if (queue >= outbound.size() || outbound[queue].empty()) return nullptr;
    const Senders& senders = outbound[queue];
    return senders[worker % senders.size()].get();
  }
};

// A value that is replaced as a whole. A reader holds what it got for the length of one burst; when the last holder of an old value lets
// go its SAs are destroyed and their keys wiped.
template <typename Value>
class Snapshot {
 public:
  [[nodiscard]] std::shared_ptr<const Value> get() const {
    const std::lock_guard lock(mutex_);
    return value_;
  }
  void set(std::shared_ptr<const Value> value) {
    const std::lock_guard lock(mutex_);
    value_.swap(value);
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const Value> value_ = std::make_shared<const Value>();
};

// Every packet ends in `reasons`. At rest, outbound: packets == sum of reasons, where a frame counts as the packets that it was cut into, or as
// one if it was refused. Inbound: frames + split == sum of reasons + joined + pending, where the fragments of one datagram end in one reason
// when they were put together (the others are `joined`), or each by itself when they never were.
struct PathCounters {
  Counter frames;
  Counter ring_frames;  // inbound only: those of `frames` that a ring brought; the others came by the TAP
  Counter packets;  // outbound only
  Counter gathered;   // outbound only: packets that left behind another one in its frame (ESP in UDP)
  Counter split;      // inbound only: packets that came behind another one in its frame (ESP in UDP)
  Counter joined;
  Counter coalesced;  // inbound only: packets that went to the kernel behind another one in its frame
  std::atomic<std::uint64_t> pending{0};
  Counter icmp_sent;
  ReasonCounters reasons;
};

// The last thing that went wrong with a device, for operators. `alarm` is the descriptor of an event that wakes who can mend it, or -1.
class Fault {
 public:
  explicit Fault(int alarm) noexcept : alarm_(alarm) {}

  void set(std::string text) {
    {
      const std::lock_guard lock(mutex_);
      text_ = std::move(text);
    }
    eventfd_write(alarm_, 1);
  }
  [[nodiscard]] std::string get() const {
    const std::lock_guard lock(mutex_);
    return text_;
  }

 private:
  int alarm_;
  mutable std::mutex mutex_;
  std::string text_;
};

// Wakes a thread that waits in epoll.
class StopEvent {
 public:
  StopEvent() : descriptor_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (descriptor_.number() < 0) throw EngineError(describe_error("no event to stop a thread with", errno));
  }
  void raise() noexcept {
    is_raised_.store(true, std::memory_order_relaxed);
    eventfd_write(descriptor_.number(), 1);
  }
  [[nodiscard]] bool is_raised() const noexcept { return is_raised_.load(std::memory_order_relaxed); }
  void clear() noexcept {
    is_raised_.store(false, std::memory_order_relaxed);
    eventfd_t value;
    eventfd_read(descriptor_.number(), &value);
  }
  [[nodiscard]] int descriptor() const noexcept { return descriptor_.number(); }

 private:
  Descriptor descriptor_;
  std::atomic<bool> is_raised_{false};
};

}  // namespace groupvpn
