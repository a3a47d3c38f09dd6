#include "spin.hpp"

#include "harness.hpp"

using namespace groupvpn;

TEST_CASE(a_thread_looks_longer_the_shorter_it_sleeps_and_not_at_all_when_it_is_quiet) {
  using namespace std::chrono_literals;
  Spin spin;
  int looks = 0;
  const auto never = [&looks] { return ++looks < 0; };
  CHECK(!spin.wait(never));
  CHECK_EQUAL(looks, 0);
  for (const auto expected : {5us, 10us, 20us, 20us}) {
    spin.slept(3us);
    CHECK(spin.budget() == expected);
  }
  CHECK(!spin.wait(never));
  CHECK(looks > 0);
  CHECK(spin.wait([] { return true; }));
  for (const auto expected : {10us, 5us, 0us}) {
    spin.slept(5ms);
    CHECK(std::chrono::duration_cast<std::chrono::microseconds>(spin.budget()) == expected);
  }
}

TEST_CASE(a_sleep_counts_for_all_that_came_in_it) {
  using namespace std::chrono_literals;
  Spin spin;
  spin.slept(1ms, 5);
  CHECK(spin.budget() == 0us);
  spin.slept(1ms, 100);
  CHECK(spin.budget() == Spin::shortest);
  spin.slept(1ms, 0);
  CHECK(spin.budget() == 0us);
}
