// The outbound path: frames from TAPs, cut, encapsulated in bursts, out on the wire.
#pragma once

#include <sys/epoll.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "cut.hpp"
#include "esp.hpp"
#include "inject.hpp"
#include "leaving_order.hpp"
#include "path_context.hpp"
#include "shared_ring.hpp"
#include "shared_turn.hpp"
#include "slots.hpp"
#include "spin.hpp"
#include "super_wire.hpp"
#include "tap.hpp"
#include "wire.hpp"

namespace groupvpn {

class Outbound final : private PacketSink {
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
  [[nodiscard]] BackEnd back_end() const { return wire_.back_end(); }

 private:
  static constexpr std::size_t burst_size = Transmitter::burst_size;
  static_assert(burst_size <= Gatherer::maximum_burst);
  static constexpr std::size_t frames_per_turn = 64;  // from one queue before the next has its turn
  static constexpr auto close_enough = std::chrono::microseconds(10);  // from one frame to the next, so that a ring is worth looking at
  static constexpr int ring_bursts_per_turn = 16;     // before those who change the queues have their turn
  static constexpr std::size_t read_size = Tap::maximum_header_size + LinkHeader::maximum_size + ipv4_maximum_size + 1;

  struct Link {
    std::array<std::uint8_t, LinkHeader::maximum_size> octets;
    std::size_t size;
  };

  // A frame as it came from the kernel.
  struct Incoming {
    std::uint8_t* data;
    std::size_t length;
    Offload offload;
  };

  void serve(std::span<const epoll_event> events);
  void turn(std::size_t queue, const SaTable& table);
  void serve_ring();
  std::size_t take_ring_burst();
  void take_record(const SharedRing::Record& record, const SaTable& table);
  void drain_taps();
  void rest() noexcept;
  [[nodiscard]] bool is_for_ring(const Incoming& frame) const noexcept;
  [[nodiscard]] bool came_behind_ring(Incoming& frame) const noexcept;
  void take(std::size_t length, const Tap& tap, Sa* sa);
  void handle(const Incoming& frame, Sa* sa);
  Reason cut(const Incoming& frame, Sa* sa);
  [[nodiscard]] CutLimits limits_for(const Sa& sa, const CutPacket& ip, const Offload& offload) const noexcept;
  void refuse(Reason reason) noexcept;
  void answer_too_big(const CutPacket& refused, std::uint32_t mtu);
  void flush() noexcept;
  void send(std::span<Packet> packets) noexcept;
  void follow_mtu();
  void flush_large() noexcept;
  Reason send_in_parts(const Packet& packet) noexcept;

  std::uint8_t* open(std::uint32_t length) noexcept override;
  void commit(std::uint32_t length) noexcept override;

  PathContext context_;
  Wire wire_;
  SuperWire super_wire_;
  Descriptor epoll_;
  StopEvent stop_;
  SharedTurn queues_turn_;  // held while frames are read, so that a queue that was removed is never touched again
  std::vector<std::optional<Tap>> queues_;

  std::optional<SharedRing> ring_;
  Spin spin_;
  bool is_risen_ = false;  // the ring gets what it can take
  bool is_fresh_ = false;  // and what came before it rose may not be at the TAPs yet
  Spin::Clock::time_point fresh_until_{};
  std::size_t taken_ = 0;  // by TAPs since we slept
  bool may_rise_ = true;   // the ring would have taken all of it
  std::uint32_t rises_ = 0;
  bool is_leaving_ = false;  // we stop, and have met a frame that is newer than what waits in the ring

  Esp esp_;
  Cutter cutter_;
  std::uint32_t mtu_;
  std::vector<std::uint8_t> frame_;
  Slots large_;  // one packet that is to be fragmented after encryption
  std::uint32_t next_identification_;
  std::size_t count_ = 0;
  std::array<Packet, burst_size> packets_;
  std::array<Link, burst_size> links_;
  std::array<OutgoingFrame, burst_size> outgoing_;
  Link current_link_{};
  Sa* current_sa_ = nullptr;
  LeavingOrder order_;  // of the packets in the burst
  std::uint32_t current_limit_ = 0;  // longer packets are split after encryption
  std::span<std::uint8_t> opened_;   // the buffer that the packet which is being written has
  bool is_refused_ = false;          // the wire had none for it
  std::chrono::steady_clock::time_point next_icmp_{};

  PathCounters counters_;
};

}  // namespace groupvpn
