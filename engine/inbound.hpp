// The inbound path: ESP frames from the TAP of the ingress hook, put together, decapsulated in bursts, coalesced, back to the kernel.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "coalesce.hpp"
#include "esp.hpp"
#include "inject.hpp"
#include "outbound.hpp"
#include "path.hpp"
#include "reassembly.hpp"
#include "slots.hpp"

namespace groupvpn {

class Inbound {
 public:
  explicit Inbound(const PathContext& context);

  // Runs until stop() is called from another thread.
  void run();
  void stop() noexcept { stop_.raise(); }

  [[nodiscard]] const PathCounters& counters() const noexcept { return counters_; }

 private:
  static constexpr std::size_t burst_size = 128;
  static_assert(burst_size <= Coalescer::maximum_burst);
  // The kernel hands frames of any size that the device received, whatever MTU we were told.
  static constexpr std::size_t slot_size = Tap::maximum_header_size + LinkHeader::maximum_size + 9216;

  // False when the TAP is gone.
  bool read_burst();
  void take(std::uint8_t* slot, std::size_t length);
  void take_fragment(const Ipv4& fragment, const std::uint8_t* frame);
  void push(std::uint8_t* ip, std::size_t length, std::size_t headroom, const std::uint8_t* frame);
  void process();
  bool give(const SuperPacket& super);
  void refuse(Reason reason, std::uint64_t packets = 1) noexcept { counters_.reasons.add(reason, packets); }
  void expire_fragments();

  PathContext context_;
  StopEvent stop_;
  Esp esp_;
  Coalescer coalescer_;
  Reassembler reassembler_;
  Slots slots_;
  std::size_t count_ = 0;
  std::array<Packet, burst_size> packets_;
  std::array<MacAddress, burst_size> destinations_;
  std::vector<std::unique_ptr<std::vector<std::uint8_t>>> datagrams_;  // put together in this burst
  std::array<iovec, burst_size> parts_;
  PathCounters counters_;
};

}  // namespace groupvpn
