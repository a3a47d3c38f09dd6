#include "leaving_order.hpp"

#include <array>
#include <thread>
#include <vector>

#include "harness.hpp"

using namespace groupvpn;

TEST_CASE(a_burst_has_some_sequences_and_no_more) {
  std::array<std::mutex, LeavingOrder::most + 1> mutexes;
  LeavingOrder order;
  for (int turn = 0; turn < 3; ++turn) {
    for (std::size_t index = 0; index < LeavingOrder::most; ++index) {
      for (int packet = 0; packet < 2; ++packet) {
        CHECK(order.has_room_for(&mutexes[index]));
        order.add(&mutexes[index]);
      }
      order.add(nullptr);
    }
    CHECK(!order.has_room_for(&mutexes.back()));
    CHECK(order.has_room_for(&mutexes.front()) && order.has_room_for(nullptr));
    const std::lock_guard lock(order);
    std::thread([&mutexes] {
      for (std::size_t index = 0; index < mutexes.size(); ++index) {
        const bool is_free = mutexes[index].try_lock();
        CHECK_EQUAL(is_free, index == LeavingOrder::most);
        if (is_free) mutexes[index].unlock();
      }
    }).join();
  }
}

TEST_CASE(threads_that_want_the_same_sequences_do_not_wait_in_a_circle) {
  std::array<std::mutex, LeavingOrder::most> mutexes;
  std::array<int, LeavingOrder::most> numbers{};
  std::vector<std::thread> threads;
  for (std::size_t first = 0; first < mutexes.size(); ++first) {
    threads.emplace_back([&mutexes, &numbers, first] {
      LeavingOrder order;
      for (int burst = 0; burst < 2000; ++burst) {
        for (std::size_t step = 0; step < mutexes.size(); ++step) order.add(&mutexes[(first + step) % mutexes.size()]);
        const std::lock_guard lock(order);
        for (int& number : numbers) ++number;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const int number : numbers) CHECK_EQUAL(number, 8000);
}
