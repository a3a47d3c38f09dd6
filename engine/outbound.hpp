// The outbound path: frames from TAPs and from the ring beside them, in their order, into bursts.
#pragma once

#include <sys/epoll.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "descriptor.hpp"
#include "outbound_burst.hpp"
#include "path_context.hpp"
#include "shared_ring.hpp"
#include "shared_turn.hpp"
#include "spin.hpp"
#include "tap.hpp"

namespace groupvpn {

// No packet overtakes another one of its flow, by whichever of the two ways they come. What is led where, tap_program.hpp says; what this costs, and which gap
// it leaves, docs/decisions/steering.md.
//
// - While the ring rests everything comes by the TAPs, and wakes the thread.
// - It rises when frames follow each other closely and it would have taken all of them. What was led to a TAP until then is older than all that comes
//   by the ring: the TAPs are read empty first, and while the ring is fresh again before each burst of it.
// - A program has it rest when a frame must go by a TAP. That frame, which has the RiseMark of now, and those behind it are newer than all that is in
//   the ring, which is taken first. Any other frame of a TAP is older.
// - It rests too when nothing has come for a while.
class Outbound {
 public:
  Outbound(const PathContext& context, WireParameters wire, SuperWire super_wire);

  // Any thread, at any time. A number is used once.
  void add_queue(std::size_t queue, Tap tap);
  bool remove_queue(std::size_t queue);  // false: it is not there, or was given up

  // Runs until stop() is called from another thread, or waiting fails, which is a fault then.
  void run();
  void stop() noexcept { stop_.raise(); }
  // Forgets stop(), when the thread has ended.
  void rearm() noexcept { stop_.clear(); }
  // When the thread has ended, and no program fills the ring any more: how many frames waited there, which are thrown away.
  std::uint64_t discard() noexcept { return ring_ ? ring_->discard() : 0; }

  [[nodiscard]] const PathCounters& counters() const noexcept { return counters_; }
  [[nodiscard]] BackEnd back_end() const { return burst_.back_end(); }

 private:
  static constexpr std::size_t frames_per_turn = 64;  // from one queue before the next has its turn
  static constexpr auto close_enough = std::chrono::microseconds(10);  // from one frame to the next, so that a ring is worth looking at
  static constexpr int ring_bursts_per_turn = 16;     // before those who change the queues have their turn
  static constexpr std::size_t read_size = Tap::maximum_header_size + LinkHeader::maximum_size + ipv4_maximum_size + 1;

  void serve(std::span<const epoll_event> events);
  void turn(std::size_t queue, const SaTable& table);
  void take(std::size_t length, const Tap& tap, Sa* sa);
  [[nodiscard]] bool is_for_ring(const TapFrame& frame) const noexcept;

  void rise(Spin::Clock::time_point asleep, Spin::Clock::time_point awake);
  void drain_taps();
  void serve_ring();
  std::size_t take_ring_burst();
  void take_record(const SharedRing::Record& record, const SaTable& table);
  void rest();

  PathContext context_;
  PathCounters counters_;
  OutboundBurst burst_;
  Descriptor epoll_;
  StopEvent stop_;
  SharedTurn queues_turn_;  // held while frames are read, so that a queue that was removed is never touched again
  std::vector<std::optional<Tap>> queues_;
  std::vector<std::uint8_t> frame_;  // that a TAP has given us

  std::optional<SharedRing> ring_;
  Spin spin_;
  bool is_risen_ = false;  // the ring gets what it can take
  bool is_fresh_ = false;  // and what came before it rose may not be at the TAPs yet
  Spin::Clock::time_point fresh_until_{};
  std::size_t taken_ = 0;  // by TAPs since we slept
  bool may_rise_ = true;   // the ring would have taken all of it
  std::uint32_t rises_ = 0;
  bool is_leaving_ = false;  // we stop, and have met a frame that is newer than what waits in the ring
};

}  // namespace groupvpn
