#include "senders.hpp"

#include <map>

#include "build.hpp"
#include "harness.hpp"
#include "memory.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

TEST_CASE(each_sender_has_a_window_of_its_own) {
  Random random(31);
  SenderWindows windows(64);
  std::map<std::uint32_t, ReplayWindow> model;
  std::map<std::uint32_t, std::uint32_t> highest;
  for (int turn = 0; turn < 50000; ++turn) {
    const std::uint32_t sender = random.below(20) * 0x00ffffff / 19;
    std::uint32_t& base = highest[sender];
    base += random.below(3);
    const std::uint32_t sequence = base - std::min(base, random.below(80));
    ReplayWindow& expected = model.try_emplace(sender, 64).first->second;
    const bool is_new = expected.is_acceptable(sequence);
    CHECK_EQUAL(windows.is_acceptable(sender, sequence), is_new);
    CHECK_EQUAL(windows.accept(sender, sequence) == Reason::delivered, expected.accept(sequence));
  }
  CHECK_EQUAL(windows.senders(), 20U);
}

TEST_CASE(looking_makes_no_window) {
  SenderWindows windows(64);
  for (std::uint32_t sender = 0; sender < 1000; ++sender) CHECK(windows.is_acceptable(sender, 1));
  CHECK(!windows.is_acceptable(5, 0));
  CHECK(windows.accept(5, 0) == Reason::replayed);
  CHECK_EQUAL(windows.senders(), 0U);
}

TEST_CASE(a_full_table_forgets_nobody) {
  SenderWindows windows(64);
  constexpr std::uint32_t limit = SenderBudget::senders(64);
  for (std::uint32_t sender = 0; sender < limit; ++sender) CHECK(windows.accept(sender, 7) == Reason::delivered);
  CHECK(windows.accept(limit, 7) == Reason::too_many_senders);
  for (std::uint32_t sender = 0; sender < limit; ++sender) {
    CHECK(windows.accept(sender, 7) == Reason::replayed);
    CHECK(windows.accept(sender, 8) == Reason::delivered);
  }
  CHECK_EQUAL(windows.senders(), limit);
}

// What a receiver remembers beyond the window that it was given: copies stay copies, and what the small window did not know counts as one.
TEST_CASE(windows_beside_a_ring_remember_more) {
  SenderWindows windows(64);
  CHECK(windows.accept(1, 1000) == Reason::delivered);
  CHECK(windows.accept(1, 950) == Reason::delivered);
  windows.keep_at_least(4096);
  for (const std::uint64_t seen : {1000, 950, 936, 500, 1}) CHECK(windows.accept(1, seen) == Reason::replayed);
  CHECK(windows.accept(1, 940) == Reason::delivered);
  CHECK(windows.accept(1, 8000) == Reason::delivered);
  CHECK(windows.accept(1, 8000 - 4095) == Reason::delivered);
  CHECK(windows.accept(1, 8000 - 4096) == Reason::replayed);
  CHECK(windows.accept(2, 5000) == Reason::delivered);
  windows.resize(64);  // an SA that is made anew
  CHECK(windows.accept(2, 1000) == Reason::delivered);
  for (const std::uint64_t seen : {1000, 5000}) CHECK(windows.accept(2, seen) == Reason::replayed);
}

TEST_CASE(there_is_room_for_all_sender_ids_of_16_bits) {
  for (const std::uint32_t window : {64U, 1024U, 4096U}) {
    CHECK(SenderBudget::senders(window) >= 1U << 16);
    CHECK(SenderBudget::senders(window) * SenderBudget::octets_for(window) <= SenderBudget::octets);
  }
  SenderWindows windows(4096);
  for (std::uint32_t sender = 0; sender < 1U << 16; ++sender) CHECK(windows.accept(sender << 16, 7) == Reason::delivered);
}

TEST_CASE(one_window_for_all_where_packets_do_not_tell_senders_apart) {
  const std::array<std::uint8_t, 16> iv = {0xab, 0xcd, 0xef, 1, 2, 3, 4, 5};
  CHECK_EQUAL(Keys(Cipher::aes_128_cbc, Integrity::hmac_sha1_96).sa()->sender_of(iv.data()), 0U);
  const Keys gcm(Cipher::aes_128_gcm, Integrity::none, 0x61);
  for (const auto& [bits, sender] : std::map<unsigned, std::uint32_t>{{0, 0}, {1, 0xabcdef01}, {12, 0xabcdef01}, {24, 0xabcdef01}, {32, 0xabcdef01}}) {
    SaParameters parameters = gcm.parameters();
    parameters.sender_id_bits = bits;
    parameters.sender_id = 0;
    CHECK_EQUAL(Sa(parameters).sender_of(iv.data()), sender);
  }
}

// All packets of the SA wait meanwhile, so it must not take longer for many senders than for one: each window grows when its next packet comes.
TEST_CASE(windows_are_widened_one_by_one) {
  SenderWindows windows(64);
  for (std::uint32_t sender = 0; sender < 100; ++sender) CHECK(windows.accept(sender, 1000) == Reason::delivered);
  {
    const Scarcity scarcity(0);
    windows.keep_at_least(4096);
    CHECK(windows.accept(1, 999) == Reason::delivered);  // where there is no memory the window stays as it is
    CHECK(windows.accept(1, 1100) == Reason::delivered);
    for (const std::uint64_t number : {1100, 999, 900}) CHECK(windows.accept(1, number) == Reason::replayed);
  }
  CHECK(windows.is_acceptable(2, 999) && !windows.is_acceptable(2, 936));
  CHECK(windows.accept(2, 5000) == Reason::delivered);
  CHECK(windows.accept(2, 1001) == Reason::delivered);
  for (const std::uint64_t number : {1001, 1000, 936, 905}) CHECK(windows.accept(2, number) == Reason::replayed);
}

TEST_CASE(the_upper_half_of_a_number_is_found_with_the_width_that_was_asked_for) {
  constexpr std::uint64_t beyond = std::uint64_t{1} << 32;
  SenderWindows windows(64);
  CHECK(windows.accept(0, beyond + 100) == Reason::delivered);
  windows.keep_at_least(4096);
  CHECK_EQUAL(windows.extend(0, 0xffffff00), beyond - 256);
  CHECK_EQUAL(windows.extend(0, 101), beyond + 101);
  CHECK(!windows.is_acceptable(0, beyond - 256));
}

// A member sends under numbers that would meet in one place of a table of 42043 (of libstdc++), or of 2^16.
TEST_CASE(nobody_can_have_senders_meet_in_one_place) {
  for (const std::uint32_t step : {42043U, 1U << 16, 1U}) {
    SenderMap<std::uint32_t> senders;
    for (std::uint32_t number = 0; number < 42000; ++number) senders.add(number * step, number);
    CHECK(senders.longest_walk() <= 32);
  }
}
