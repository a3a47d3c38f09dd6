// Whether to go on looking for a while before going to sleep.
#pragma once

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstddef>

namespace groupvpn {

// When a ring rises, what was led elsewhere before may be this long on its way there, while another processor waits for its host or for an interrupt.
inline constexpr std::chrono::milliseconds longest_on_the_way{10};

// To be woken costs a system call, perhaps an interrupt for another processor, and some microseconds of its own, and whoever sends pays for it too.
// While packets follow each other closely it is cheaper to look for the next one. So the time to look grows while sleeps turn out short, and is
// nothing at all while they are long: an idle or quiet interface costs nothing.
class Spin {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr Clock::duration shortest = std::chrono::microseconds(5), longest = std::chrono::microseconds(20);

  // How long the thread has just slept, and how many frames came meanwhile: without the sleep it would have waited for each of them that much less.
  void slept(Clock::duration time, std::size_t frames = 1) noexcept {
    if (time / std::max<std::size_t>(frames, 1) < longest) {
      budget_ = std::clamp(budget_ * 2, shortest, longest);
    } else {
      budget_ = budget_ > shortest ? budget_ / 2 : Clock::duration::zero();
    }
  }

  // Looks until `is_there` or the time is over, and lets other threads run meanwhile.
  template <typename Condition>
  bool wait(Condition is_there) const noexcept {
    if (budget_ == Clock::duration::zero()) return false;
    const Clock::time_point deadline = Clock::now() + budget_;
    do {
      if (is_there()) return true;
      sched_yield();
    } while (Clock::now() < deadline);
    return is_there();
  }

  [[nodiscard]] Clock::duration budget() const noexcept { return budget_; }

 private:
  Clock::duration budget_{};
};

}  // namespace groupvpn
