// The way from the kernel to encryption by BPF programs on the outbound TAPs, beside the TAPs themselves.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "descriptor.hpp"
#include "shared_ring.hpp"
#include "tap_program.hpp"

namespace groupvpn {

// A ring for each worker, which all outbound TAPs of a port fill. While a worker's ring rests its packets go by the TAPs, and wake it.
class TapRings {
 public:
  static constexpr std::size_t maximum_queues = 1 << 16;
  static constexpr std::uint32_t ring_size = 4 << 20;

  // `mtu`: of the interface on which packets leave. EngineError without the right to it.
  TapRings(std::uint32_t workers, std::uint32_t mtu) : memory_(workers, mtu, ring_size, RiseMark::of(0)), workers_(workers) {}

  [[nodiscard]] SharedRing ring(std::uint32_t worker) const noexcept { return SharedRing(memory_, worker); }
  // A record says in 16 bits how long its frame is.
  [[nodiscard]] std::uint32_t longest_frame() const noexcept { return std::min(memory_.longest_frame(), std::uint32_t{0xffff}); }
  [[nodiscard]] std::uint64_t overruns() const noexcept;

  // Has the TAP number `queue`, whose queues these are, fill the rings until the descriptor is closed. EngineError before Linux 6.6.
  [[nodiscard]] Descriptor attach(std::span<const int> tap_queues, std::size_t queue) const;

 private:
  RingMemory memory_;
  std::uint32_t workers_;
};

}  // namespace groupvpn
