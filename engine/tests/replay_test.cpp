#include "replay.hpp"

#include <initializer_list>
#include <utility>
#include <set>

#include "harness.hpp"

using groupvpn::ReplayWindow;
using groupvpn::test::Random;

namespace {

// The rule of RFC 4303 3.4.3 in its plainest form.
class Model {
 public:
  explicit Model(std::uint32_t size) : size_(size) {}
  bool accept(std::uint32_t sequence) {
    if (sequence == 0 || (sequence <= highest_ && highest_ - sequence >= size_) || !seen_.insert(sequence).second) return false;
    if (sequence > highest_) highest_ = sequence;
    while (*seen_.begin() + size_ <= highest_ && *seen_.begin() < highest_) seen_.erase(seen_.begin());
    return true;
  }

 private:
  std::uint32_t size_, highest_ = 0;
  std::set<std::uint32_t> seen_;
};

constexpr std::initializer_list<std::uint32_t> sizes = {1, 2, 31, 32, 63, 64, 65, 100, 127, 128, 129, 512, 1000, 1024, 4096};

}  // namespace

TEST_CASE(a_window_behaves_like_its_model) {
  for (const std::uint32_t size : sizes) {
    Random random(size);
    ReplayWindow window(size);
    Model model(size);
    std::uint32_t base = 1;
    for (int turn = 0; turn < 20000; ++turn) {
      const std::uint32_t choice = random.below(100);
      if (choice < 60) base += random.below(3);
      if (choice == 99) base += random.below(3 * size + 100);
      const std::uint32_t back = random.below(2 * size + 10);
      const std::uint32_t sequence = base > back ? base - back : base;
      const bool is_acceptable = window.is_acceptable(sequence);
      const bool is_new = model.accept(sequence);
      CHECK_EQUAL(is_acceptable, is_new);
      CHECK_EQUAL(window.accept(sequence), is_new);
    }
  }
}

TEST_CASE(the_edges_of_a_window) {
  for (const std::uint32_t size : sizes) {
    ReplayWindow window(size);
    CHECK(!window.accept(0));
    CHECK(window.accept(10 * size));
    CHECK(!window.accept(10 * size));
    CHECK(!window.accept(9 * size));
    if (size > 1) CHECK(window.accept(9 * size + 1));
    CHECK(!window.accept(9 * size + 1) || size == 1);
    CHECK_EQUAL(window.highest(), 10 * size);
  }
}

TEST_CASE(the_last_sequence_number) {
  ReplayWindow window(64);
  CHECK(window.accept(1));
  CHECK(window.accept(0xffffffff));
  CHECK(!window.accept(0xffffffff));
  CHECK(!window.accept(1));
  CHECK(window.accept(0xffffffff - 63));
  CHECK(!window.accept(0xffffffff - 64));
}

TEST_CASE(looking_does_not_move_the_window) {
  ReplayWindow window(64);
  CHECK(window.accept(5));
  CHECK(window.is_acceptable(1000000));
  CHECK(window.is_acceptable(4));
  CHECK_EQUAL(window.highest(), 5U);
}

TEST_CASE(no_window_accepts_everything) {
  ReplayWindow window(0);
  for (int turn = 0; turn < 3; ++turn) CHECK(window.is_acceptable(7) && window.accept(7) && window.accept(0));
}

// Of every pair of sizes, wherever in a word the window ends: what both reach is as it was, and what only the larger one reaches counts as seen.
TEST_CASE(a_window_of_another_size_knows_what_the_first_one_knew) {
  for (const std::uint32_t before : sizes) {
    for (const std::uint32_t after : sizes) {
      for (const std::uint64_t highest : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{63}, std::uint64_t{64}, std::uint64_t{100}, std::uint64_t{5000}, (std::uint64_t{1} << 33) + 7}) {
        Random random(before + after);
        ReplayWindow window(before);
        if (highest != 0) CHECK(window.accept(highest));
        for (std::uint32_t packet = 0; packet < before / 2; ++packet) {
          if (const std::uint64_t back = random.below(before); back < highest) window.accept(highest - back);
        }
        const ReplayWindow resized = window.resized(after);
        CHECK_EQUAL(resized.highest(), highest);
        for (std::uint64_t back = 0; back < 4200 && back < highest; ++back) {
          CHECK_EQUAL(resized.is_acceptable(highest - back), back < after && window.is_acceptable(highest - back));
        }
        CHECK(resized.is_acceptable(highest + 1) && resized.is_acceptable(highest + 5000));
      }
    }
  }
}
