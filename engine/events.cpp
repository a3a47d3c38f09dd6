#include "events.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "boot_clock.hpp"
#include "error.hpp"
#include "lifetime.hpp"
#include "sa.hpp"

namespace groupvpn {
namespace {

void add(const Descriptor& poll, const Descriptor& added) {
  epoll_event event{};
  event.events = EPOLLIN;
  if (epoll_ctl(poll.number(), EPOLL_CTL_ADD, added.number(), &event) != 0) {
    throw EngineError(describe_error("the engine's events cannot be waited for", errno));
  }
}

void set_timer(const Descriptor& timer, std::int64_t deadline) noexcept {
  itimerspec when{};  // zero disarms
  if (deadline != Limits::never) {
    deadline = std::max<std::int64_t>(deadline, 1);
    when.it_value = {deadline / 1000, deadline % 1000 * 1000000};
  }
  timerfd_settime(timer.number(), TFD_TIMER_ABSTIME, &when, nullptr);
}

void note_time(Event& event, Sa* sa) noexcept {
  const TimedReplay* timed = sa != nullptr ? sa->timed() : nullptr;
  if (timed == nullptr) return;
  event.own_stamp = timed->stamp(event.moment);
  event.tick = timed->tick();
  event.time_window = timed->seconds();
}

}  // namespace

EventQueue::EventQueue()
    : wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      alarm_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      timer_(timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK)),
      poll_(epoll_create1(EPOLL_CLOEXEC)) {
  if (alarm_.number() < 0) throw EngineError(describe_error("no event for faults", errno));
  add(poll_, wake_);
  add(poll_, timer_);
  events_.reserve(room);
}

void EventQueue::push(const Event& event) noexcept {
  try {
    events_.push_back(event);
  } catch (const std::bad_alloc&) {  // whoever tells must go on
    ++counters_.lost;
    return;
  }
  if (events_.size() == 1) eventfd_write(wake_.number(), 1);
}

void EventQueue::tell(EventKind kind, std::uint32_t spi) noexcept {
  const std::lock_guard lock(mutex_);
  Event event{kind};
  event.spi = spi;
  event.moment = boot_milliseconds();
  push(event);
}

void EventQueue::notice(const Packet& packet) noexcept {
  Event event{};
  switch (packet.reason) {
    case Reason::unknown_spi: event.kind = EventKind::unknown_spi; break;
    case Reason::replayed: event.kind = EventKind::replayed; break;
    case Reason::too_old: event.kind = EventKind::too_old; break;
    case Reason::too_new: event.kind = EventKind::too_new; break;
    case Reason::authentication: event.kind = EventKind::authentication; break;
    case Reason::address_mismatch: event.kind = EventKind::address_mismatch; break;
    default: return;
  }
  const bool is_ah = packet.outer.protocol == protocol_ah;
  if (packet.length < (is_ah ? ah_fixed_size : esp_header_size)) return;
  event.spi = load32(packet.data + (is_ah ? ah_at::spi : esp_at::spi));
  event.sequence = load32(packet.data + (is_ah ? ah_at::sequence : esp_at::sequence));
  event.moment = boot_milliseconds();
  event.family = packet.outer.family;
  const std::size_t size = address_size(event.family);  // what a packet holds behind an IPv4 address is nothing
  std::memcpy(event.source.data(), packet.outer.source.data(), size);
  std::memcpy(event.destination.data(), packet.outer.destination.data(), size);
  event.protocol = packet.outer.protocol;
  if (packet.reason != Reason::authentication && packet.reason != Reason::address_mismatch) note_time(event, packet.sa);
  const std::lock_guard lock(mutex_);
  if (!limit_.admits(event.kind, event.source, event.moment)) {
    ++counters_.suppressed;
  } else if (events_.size() >= capacity_for_packets) {
    ++counters_.lost;
  } else {
    push(event);
  }
}

void EventQueue::watch(const std::shared_ptr<Lifetime>& lifetime) {
  {
    const std::lock_guard lock(watched_mutex_);
    watched_.push_back(lifetime);
  }
  look_at_deadlines();
}

// Dead ones are forgotten, and those whose last deadline has come. They tell us of what is due, which takes the other lock.
void EventQueue::look_at_deadlines() {
  const std::lock_guard lock(watched_mutex_);
  const std::int64_t now = boot_milliseconds();
  std::int64_t next = Limits::never;
  std::erase_if(watched_, [&](const std::weak_ptr<Lifetime>& weak) {
    const std::shared_ptr<Lifetime> lifetime = weak.lock();
    const std::int64_t deadline = lifetime ? lifetime->look(now) : Limits::never;
    next = std::min(next, deadline);
    return deadline == Limits::never;
  });
  set_timer(timer_, next);
}

std::vector<Event> EventQueue::drain() {
  look_at_deadlines();
  std::vector<Event> fresh;
  fresh.reserve(room);
  const std::lock_guard lock(mutex_);
  eventfd_t value;
  eventfd_read(wake_.number(), &value);
  events_.swap(fresh);
  return fresh;
}

EventQueue::Counters EventQueue::counters() const {
  const std::lock_guard lock(mutex_);
  return counters_;
}

}  // namespace groupvpn
