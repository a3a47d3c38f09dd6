#include "ledger.hpp"

#include <set>

#include "build.hpp"
#include "harness.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

bool is_replayed(Sa& sa, std::uint32_t sender, std::uint32_t number) {
  std::array<std::uint8_t, 8> iv;
  store64(iv.data(), std::uint64_t{sender} << 40);
  Origin origin;
  return sa.look(origin, number, iv.data(), 0) == Reason::replayed;
}

void receive(Sa& sa, std::uint32_t sender, std::uint32_t number) { CHECK(sa.accept({number, sender, 0}, 0) == Reason::delivered); }

}  // namespace

TEST_CASE(an_sa_that_is_made_anew_knows_what_was_received) {
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0xa1);
  const auto make = [](const Keys& of, std::uint32_t spi, std::uint32_t sender_id) {
    SaParameters parameters = of.parameters(spi);
    parameters.replay_window = 64;
    parameters.sender_id = sender_id;
    return std::make_shared<Sa>(parameters);
  };
  receive(*make(keys, 0x1000, 1), 7, 100);
  CHECK(is_replayed(*make(keys, 0x1000, 1), 7, 100));
  const auto sa = make(keys, 0x1000, 99);  // our own Sender-ID has nothing to do with what we receive
  CHECK(is_replayed(*sa, 7, 100));
  CHECK(!is_replayed(*sa, 7, 99));
  CHECK(!is_replayed(*sa, 8, 100));
  CHECK(is_replayed(*sa, 7, 36));
  CHECK(!is_replayed(*make(keys, 0x2000, 1), 7, 100));
  CHECK(!is_replayed(*make(Keys(Cipher::aes_128_gcm, Integrity::none, 0xa2), 0x1000, 1), 7, 100));
}

TEST_CASE(a_larger_window_takes_what_it_does_not_know_for_seen) {
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0xa3);
  SaParameters parameters = keys.parameters();
  parameters.replay_window = 64;
  {
    Sa sa(parameters);
    for (std::uint32_t number = 1; number <= 1000; number += 3) receive(sa, 1, number);  // up to 1000
  }
  parameters.replay_window = 1024;
  Sa sa(parameters);
  for (std::uint32_t number = 1; number <= 1000; ++number) {
    CHECK_EQUAL(is_replayed(sa, 1, number), number <= 1000 - 64 || number % 3 == 1);
  }
  CHECK(!is_replayed(sa, 1, 1001));
}

TEST_CASE(a_resized_window_takes_no_number_twice) {
  Random random(77);
  for (const auto& [before, after] : {std::pair{64U, 1024U}, {1024U, 64U}, {128U, 96U}, {64U, 65U}}) {
    ReplayWindow window(before);
    std::set<std::uint32_t> taken;
    std::uint32_t top = 1;
    const auto arrive = [&](int packets) {
      for (int turn = 0; turn < packets; ++turn) {
        top += random.below(3);
        const std::uint32_t number = top - std::min(top - 1, random.below(1100));
        if (window.accept(number)) CHECK(taken.insert(number).second);
      }
    };
    arrive(5000);
    window = window.resized(after);
    const auto highest = static_cast<std::uint32_t>(window.highest());
    for (std::uint32_t back = 0; back < 1100; ++back) {
      CHECK_EQUAL(window.is_acceptable(highest - back), back < std::min(before, after) && !taken.contains(highest - back));
    }
    CHECK(window.is_acceptable(highest + 1));
    arrive(5000);
  }
}

TEST_CASE(windows_that_nobody_uses_are_bounded) {
  const auto make = [](std::uint32_t spi, const Keys& keys) {
    SaParameters parameters = keys.parameters(spi);
    parameters.replay_window = 64;
    return std::make_shared<Sa>(parameters);
  };
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0xa4);
  constexpr std::uint32_t each = SenderWindows::maximum_senders;
  constexpr std::uint32_t count = KeyLedger::idle_windows / each + 3;
  const auto in_use = make(0x5000, keys);
  for (std::uint32_t sender = 0; sender < each; ++sender) receive(*in_use, sender, 5);
  for (std::uint32_t number = 1; number <= count; ++number) {
    const auto sa = make(0x5000 + number, keys);
    for (std::uint32_t sender = 0; sender < each; ++sender) receive(*sa, sender, 5);
  }
  CHECK(is_replayed(*make(0x5000 + count, keys), 3, 5));
  CHECK(!is_replayed(*make(0x5001, keys), 3, 5));
  CHECK(is_replayed(*make(0x5000, keys), 3, 5));  // in use, so kept
}
