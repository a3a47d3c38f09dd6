// How much memory the tests let anybody have in one piece.
#pragma once

#include <atomic>
#include <cstddef>
#include <limits>

namespace groupvpn::test {

inline constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();
inline std::atomic<std::size_t> largest_allocation{unlimited};

}  // namespace groupvpn::test
