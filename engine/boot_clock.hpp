// The clock of everything that has a term: CLOCK_BOOTTIME, which only goes forward, and goes on while the machine sleeps, as the node's does.
#pragma once

#include <time.h>

#include <cstdint>

namespace groupvpn {

// Milliseconds since the machine started. Some 25 ns, so that a burst can afford it and a packet need not.
inline std::int64_t boot_milliseconds() noexcept {
  timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  return std::int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1000000;
}

}  // namespace groupvpn
