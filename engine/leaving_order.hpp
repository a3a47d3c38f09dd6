// Numbers of packets leave in their order, whoever else takes numbers from the same sequences.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <mutex>

namespace groupvpn {

// The mutexes of the sequences that number the packets of a burst (`Sa::order`), locked together from numbering to leaving. All threads lock them in the order of
// their addresses, so that none waits for one that waits for it. Where nobody else wants them this costs a lock without waiting for each burst.
class LeavingOrder {
 public:
  static constexpr std::size_t most = 4;

  // For each packet. Null is of a packet whose order does not matter.
  [[nodiscard]] bool has_room_for(const std::mutex* order) const noexcept { return order == latest_ || order == nullptr || count_ < most || has(order); }
  void add(std::mutex* order) noexcept {
    if (order != latest_) note(order);
  }

  // For each burst. `unlock` forgets them.
  void lock() noexcept {
    for (std::size_t index = 0; index < count_; ++index) orders_[index]->lock();
  }
  void unlock() noexcept {
    for (std::size_t index = 0; index < count_; ++index) orders_[index]->unlock();
    count_ = 0;
    latest_ = nullptr;
  }

 private:
  [[nodiscard]] bool has(const std::mutex* order) const noexcept {
    return std::any_of(orders_.begin(), orders_.begin() + count_, [order](const std::mutex* one) { return one == order; });
  }
  void note(std::mutex* order) noexcept {
    latest_ = order;
    if (order == nullptr || has(order)) return;
    std::size_t place = count_++;
    for (; place > 0 && std::less<>()(order, orders_[place - 1]); --place) orders_[place] = orders_[place - 1];
    orders_[place] = order;
  }

  std::array<std::mutex*, most> orders_{};
  std::size_t count_ = 0;
  std::mutex* latest_ = nullptr;  // packets of one SA come in runs
};

}  // namespace groupvpn
