// The inbound path: ESP frames from a ring and from the TAP of the ingress hook, put together, decapsulated in bursts, coalesced, back to the kernel.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "arena.hpp"
#include "coalesce.hpp"
#include "esp.hpp"
#include "frame_ring.hpp"
#include "inject.hpp"
#include "path_context.hpp"
#include "reassembly.hpp"
#include "spin.hpp"

namespace groupvpn {

class Inbound {
 public:
  explicit Inbound(const PathContext& context);

  // Runs until stop() is called from another thread, or waiting fails, which is a fault then.
  void run();
  void stop() noexcept { stop_.raise(); }
  // Forgets stop(), when the thread has ended.
  void rearm() noexcept { stop_.clear(); }

  [[nodiscard]] const PathCounters& counters() const noexcept { return counters_; }

 private:
  static constexpr std::size_t burst_size = 256;  // a super-packet ends with the burst, so those of larger ones are fuller; 512 gave no more
  static_assert(burst_size <= Coalescer::maximum_burst);
  // The kernel hands frames of any size that the device received, whatever MTU we were told, and super-packets of UDP. One octet more tells
  // what was truncated.
  static constexpr std::size_t longest_frame = Tap::maximum_header_size + LinkHeader::maximum_size + ipv4_maximum_size + 1;
  static constexpr std::size_t arena_size = burst_size / 2 * 1664 + longest_frame;  // as many full Ethernet frames

  // Before the TAP has its turn. It is read behind no more than these, and decrypted when the ring has been emptied
  // as far as it was filled then.
  static constexpr int ring_bursts_per_turn = 8;
  static constexpr std::size_t ring_packets_per_turn = 2 * burst_size;

  bool serve_tap();  // false when it is gone
  [[nodiscard]] bool is_wake_up(std::span<const std::uint8_t> octets, ssize_t length) const noexcept;
  void serve_what_is_older();
  void rise(Spin::Clock::duration slept);
  void serve_ring();
  std::size_t take_ring_burst();
  void take(std::uint8_t* octets, std::size_t length);
  bool take_fragment(const Packet& packet, const std::uint8_t* frame);
  void keep_fragment(Reassembled result, const std::uint8_t* frame);
  void take_super_packet(Packet packet, std::uint32_t segment_size, const std::uint8_t* frame);
  void push(const Packet& packet, const std::uint8_t* frame);
  void process();
  bool give(const SuperPacket& super, const SaSet& sas);
  void refuse(Reason reason, std::uint64_t packets = 1) noexcept { counters_.reasons.add(reason, packets); }
  void expire_fragments();

  PathContext context_;
  StopEvent stop_;
  Spin spin_;
  bool is_risen_ = false;  // we look at the ring
  Esp esp_;
  Coalescer coalescer_;
  Reassembler reassembler_;
  Arena arena_;
  std::array<std::span<std::uint8_t>, burst_size> frames_;  // that the TAP has given us
  std::size_t count_ = 0;
  std::array<Packet, burst_size> packets_;
  std::array<MacAddress, burst_size> destinations_;
  std::vector<std::unique_ptr<std::vector<std::uint8_t>>> datagrams_;  // put together or set apart in this burst
  std::array<std::uint8_t, inject_headroom> header_;  // of the frame that is being given to the kernel
  std::array<iovec, burst_size + 1> parts_;
  PathCounters counters_;
};

}  // namespace groupvpn
