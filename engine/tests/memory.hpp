// How much memory the tests let anybody have in one piece.
#pragma once

#include <atomic>
#include <cstddef>
#include <limits>

namespace groupvpn::test {

inline constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();
inline std::atomic<std::size_t> largest_allocation{unlimited};

// While it lives nobody gets more, in no thread.
struct Scarcity {
  explicit Scarcity(std::size_t largest) noexcept { largest_allocation = largest; }
  ~Scarcity() { largest_allocation = unlimited; }
  Scarcity(const Scarcity&) = delete;
  Scarcity& operator=(const Scarcity&) = delete;
};

}  // namespace groupvpn::test
