#include "outbound.hpp"

#include <sched.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "error.hpp"
#include "tap_program.hpp"
#include "tap_rings.hpp"

namespace groupvpn {
namespace {

constexpr std::uint64_t stop_tag = ~std::uint64_t{0};

// The RiseMark of a frame, which is taken away; 0 if it has none.
std::uint32_t take_mark(TapFrame& frame) noexcept {
  if (frame.length < RiseMark::at + RiseMark::size || load16(frame.data + RiseMark::at) != RiseMark::ethertype) return 0;
  const std::uint32_t mark = load16(frame.data + RiseMark::at + 2);
  if ((mark & RiseMark::vlan) != RiseMark::vlan) return 0;
  std::memmove(frame.data + RiseMark::size, frame.data, RiseMark::at);
  frame.data += RiseMark::size;
  frame.length -= RiseMark::size;
  Offload& offload = frame.offload;
  if ((offload.flags & Offload::needs_checksum) != 0) offload.checksum_start = static_cast<std::uint16_t>(offload.checksum_start - RiseMark::size);
  return mark;
}

}  // namespace

Outbound::Outbound(const PathContext& context, WireParameters wire, SuperWire super_wire)
    : context_(context),
      burst_(context_, std::move(wire), std::move(super_wire), counters_),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      frame_(read_size) {
  if (context_.tap_rings != nullptr) ring_ = context_.tap_rings->ring(static_cast<std::uint32_t>(context_.worker));
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = stop_tag;
  if (epoll_.number() < 0 || epoll_ctl(epoll_.number(), EPOLL_CTL_ADD, stop_.descriptor(), &event) != 0) {
    throw EngineError(describe_error("outbound TAPs cannot be waited for", errno));
  }
}

void Outbound::add_queue(std::size_t queue, Tap tap) {
  const std::lock_guard lock(queues_turn_);
  if (queue >= queues_.size()) queues_.resize(queue + 1);
  queues_[queue] = tap;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = queue;
  if (epoll_ctl(epoll_.number(), EPOLL_CTL_ADD, tap.descriptor(), &event) != 0) {
    const std::string text = std::strerror(errno);
    queues_[queue].reset();
    throw EngineError("file descriptor " + std::to_string(tap.descriptor()) + " cannot be waited for: " + text);
  }
}

bool Outbound::remove_queue(std::size_t queue) {
  const std::lock_guard lock(queues_turn_);
  if (queue >= queues_.size() || !queues_[queue]) return false;
  epoll_ctl(epoll_.number(), EPOLL_CTL_DEL, queues_[queue]->descriptor(), nullptr);
  queues_[queue].reset();
  return true;
}

void Outbound::run() {
  std::array<epoll_event, 32> events;
  is_leaving_ = false;
  for (bool is_stopping = false; !is_stopping;) {
    const bool is_sleeping = !is_risen_;
    const Spin::Clock::time_point asleep = Spin::Clock::now();
    const int ready = epoll_wait(epoll_.number(), events.data(), static_cast<int>(events.size()), is_sleeping ? -1 : 0);
    if (ready < 0 && errno != EINTR) return context_.fault.set(describe_error("outbound TAPs cannot be waited for", errno));
    const Spin::Clock::time_point awake = Spin::Clock::now();
    queues_turn_.give_way();
    const std::lock_guard lock(queues_turn_);
    burst_.look_after();
    const std::span came = std::span(events).first(static_cast<std::size_t>(std::max(ready, 0)));
    is_stopping = std::ranges::any_of(came, [](const epoll_event& event) { return event.data.u64 == stop_tag; });
    taken_ = 0;
    may_rise_ = ring_ && is_sleeping && !is_stopping;
    serve(came);
    if (may_rise_ && taken_ != 0 && awake - asleep < taken_ * close_enough) rise(asleep, awake);
    if (is_risen_ && is_stopping) {  // what is in the ring waits there: it leaves first when we run again, or is thrown away (`discard`)
      static_cast<void>(ring_->rest());
    } else if (is_risen_) {
      serve_ring();
    }
  }
}

void Outbound::serve(std::span<const epoll_event> events) {
  const std::shared_ptr<const SaTable> table = context_.sas.get();
  for (const epoll_event& event : events) {
    if (event.data.u64 != stop_tag) turn(event.data.u64, *table);
  }
  burst_.flush();
}

void Outbound::turn(std::size_t queue, const SaTable& table) {
  if (queue >= queues_.size() || !queues_[queue]) return;
  const Tap tap = *queues_[queue];
  Sa* sa = table.sender(queue, context_.worker);
  for (std::size_t frame = 0; frame < frames_per_turn && queues_[queue] && !is_leaving_; ++frame) {  // to take one may let others change the queues
    const ssize_t length = tap.read(frame_);
    if (length < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return;
      const int error = errno;
      epoll_ctl(epoll_.number(), EPOLL_CTL_DEL, tap.descriptor(), nullptr);
      queues_[queue].reset();
      burst_.flush();  // there may be no memory to say what is at fault
      context_.fault.set(describe_error("outbound queue " + std::to_string(queue), error));
      return;
    }
    ++taken_;
    take(static_cast<std::size_t>(length), tap, sa);
  }
}

void Outbound::take(std::size_t length, const Tap& tap, Sa* sa) {
  counters_.frames.add();
  if (length == frame_.size()) return burst_.refuse(Reason::oversize);
  if (length < tap.header_size()) return burst_.refuse(Reason::malformed);
  TapFrame frame{frame_.data() + tap.header_size(), length - tap.header_size(), Offload::read(frame_.data())};
  if (ring_) {
    const bool is_behind_ring = take_mark(frame) == RiseMark::of(rises_);  // it came when the ring, as it rose the last time, was to rest again
    may_rise_ = may_rise_ && is_for_ring(frame);
    if (is_risen_ && is_behind_ring) {  // what is in the ring is older, and what came by this TAP before it has been taken
      is_fresh_ = false;
      rest();
      is_leaving_ = is_risen_;
      if (is_leaving_) return burst_.refuse(Reason::send_failed);  // it may not overtake them
    }
  }
  burst_.add(frame, sa);
}

// What `tap_program` takes, as far as it can be seen.
bool Outbound::is_for_ring(const TapFrame& frame) const noexcept {
  return frame.offload.gso_type == Offload::gso_none && frame.length <= context_.tap_rings->longest_frame();
}

// After a sleep in which `taken_` frames came.
void Outbound::rise(Spin::Clock::time_point asleep, Spin::Clock::time_point awake) {
  ring_->rise(RiseMark::of(++rises_));
  spin_.slept(awake - asleep, taken_);
  is_risen_ = true;
  fresh_until_ = awake + longest_on_the_way;
  drain_taps();
}

// What was led to a TAP until we rose is older than all that comes by the ring, and of each flow it is there when the first frame behind it is in the ring.
// Other processors may bring theirs a little later; but nothing waits at a TAP so long that RiseMark would begin anew.
void Outbound::drain_taps() {
  is_fresh_ = false;
  std::array<epoll_event, 32> events;
  do {
    const int ready = epoll_wait(epoll_.number(), events.data(), static_cast<int>(events.size()), 0);
    taken_ = 0;
    serve(std::span(events).first(static_cast<std::size_t>(std::max(ready, 0))));
  } while (is_risen_ && taken_ != 0);
  is_fresh_ = is_risen_ && Spin::Clock::now() < fresh_until_;
}

// Until nothing has come for a while, or something has come that had to go by a TAP, or others must have their turn: a burst may have to wait for the wire.
void Outbound::serve_ring() {
  for (int burst = 0; burst < ring_bursts_per_turn && !queues_turn_.is_wanted() && !stop_.is_raised(); ++burst) {
    if (take_ring_burst() != 0) continue;
    if (ring_->is_resting() || !spin_.wait([this] { return ring_->has() || ring_->is_resting(); })) return rest();
  }
}

std::size_t Outbound::take_ring_burst() {
  if (!ring_->has()) return 0;
  if (is_fresh_) {  // what is older than this frame is at a TAP by now, but what is older than the next one may not be
    ring_->stop_here();
    drain_taps();
    if (is_leaving_) {
      ring_->go_on();
      return 0;
    }
  }
  const std::shared_ptr<const SaTable> table = context_.sas.get();
  std::size_t taken = 0;
  for (; taken < frames_per_turn && ring_->has(); ++taken) take_record(ring_->take(), *table);
  burst_.flush();
  ring_->release();
  ring_->go_on();
  return taken;
}

void Outbound::take_record(const SharedRing::Record& record, const SaTable& table) {
  if (record.state == RingLayout::left) return;
  counters_.frames.add();
  const std::size_t queue = record.length >> 16, length = record.length & 0xffff;
  if (length == 0) return burst_.refuse(Reason::oversize);
  TapFrame frame{record.frame, length, {}};
  if (record.state == RingLayout::incomplete) {
    const std::optional<LinkHeader> link = LinkHeader::parse(frame.data, length);
    const std::optional<CutPacket> ip = link ? CutPacket::parse(frame.data + link->size, length - link->size) : std::nullopt;
    if (!ip) return burst_.refuse(Reason::malformed);
    frame.offload = Offload::of_checksum(link->size + ip->ip_length, ip->protocol);
  }
  burst_.add(frame, table.sender(queue, context_.worker));
}

// What is still in the ring is older than what comes to it from now on. Where we stop it waits there, and we stay risen.
void Outbound::rest() {
  ring_->go_on();
  while (!ring_->rest()) {
    if (stop_.is_raised()) return;
    if (queues_turn_.is_wanted()) {
      queues_turn_.unlock();
      queues_turn_.give_way();
      queues_turn_.lock();
    }
    if (take_ring_burst() == 0) sched_yield();  // a frame that is being written
  }
  is_risen_ = is_fresh_ = false;
}

}  // namespace groupvpn
