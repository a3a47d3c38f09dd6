// How others come to a mutex of a busy thread.
#pragma once

#include <sched.h>

#include <atomic>
#include <mutex>

namespace groupvpn {

// A mutex that a busy thread holds nearly always. It lets go of it when somebody else waits, which std::mutex alone would not have it do.
class SharedTurn {
 public:
  void lock() noexcept {
    ++waiting_;
    mutex_.lock();
    --waiting_;
  }
  void unlock() noexcept { mutex_.unlock(); }
  // Whether somebody waits.
  [[nodiscard]] bool is_wanted() const noexcept { return waiting_.load(std::memory_order_relaxed) != 0; }
  // The busy thread, which does not hold it.
  void give_way() const noexcept {
    while (waiting_ != 0) sched_yield();
  }

 private:
  std::mutex mutex_;
  std::atomic<int> waiting_{0};
};

}  // namespace groupvpn
