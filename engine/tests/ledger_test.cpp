#include "ledger.hpp"

#include <atomic>
#include <set>
#include <thread>

#include "build.hpp"
#include "harness.hpp"
#include "memory.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

// What an SA makes of a packet. `bits`: how wide the Sender-ID is to its sender.
Reason look(Sa& sa, Origin& origin, std::uint32_t sender, std::uint32_t number, unsigned bits = 24) {
  std::array<std::uint8_t, 16> iv{};
  store64(iv.data(), std::uint64_t{sender} << (64 - bits) | number);
  return sa.look(origin, number, iv.data(), 0);
}

bool is_replayed(Sa& sa, std::uint32_t sender, std::uint32_t number, unsigned bits = 24) {
  Origin origin;
  return look(sa, origin, sender, number, bits) == Reason::replayed;
}

void receive(Sa& sa, std::uint32_t sender, std::uint32_t number, unsigned bits = 24) {
  Origin origin;
  CHECK(look(sa, origin, sender, number, bits) == Reason::delivered);
  CHECK(sa.accept(origin, 0) == Reason::delivered);
}

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

// A member hears of the width only with its first Sender-ID, and may have to receive before (docs/protocol/esp-replay.md).
TEST_CASE(what_was_received_outlives_another_width_of_sender_ids) {
  std::uint8_t fill = 0xe0;
  for (const Cipher cipher : {Cipher::aes_128_gcm, Cipher::aes_128_cbc}) {
    for (const unsigned width : {1U, 8U, 16U, 24U, 32U}) {
      const Keys keys(cipher, traits(cipher).is_combined() ? Integrity::none : Integrity::hmac_sha1_96, ++fill);
      const auto make = [&](unsigned bits) {
        SaParameters parameters = keys.parameters();
        parameters.replay_window = 64;
        parameters.sender_id_bits = bits;
        return std::make_shared<Sa>(parameters);
      };
      for (std::uint32_t number = 1; number <= 200; ++number) receive(*make(24), 1, number, width);
      for (const unsigned bits : {24U, width, 8U}) {
        for (std::uint32_t number = 1; number <= 200; ++number) CHECK(is_replayed(*make(bits), 1, number, width));
        CHECK(!is_replayed(*make(bits), 1, 201, width));
      }
      if (cipher == Cipher::aes_128_gcm) receive(*make(24), 0, 1, width);  // another sender, who may be at any number
    }
  }
}

TEST_CASE(what_was_received_under_a_time_window_outlives_another_width_too) {
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0xf1);
  const auto make = [&keys](unsigned bits) {
    SaParameters parameters = keys.parameters();
    parameters.replay_window = 64;
    parameters.sender_id_bits = bits;
    parameters.time = TimeWindow{5, 10, -100, -100};
    return std::make_shared<Sa>(parameters);
  };
  // A counter that has come beyond 32 bits, which one with a time window may: its sender is another one from there on.
  constexpr std::uint64_t sender = std::uint64_t{3} << 48, beyond = std::uint64_t{1} << 32;
  const auto judge = [](Sa& sa, std::uint64_t counter) {
    std::array<std::uint8_t, 8> iv{};
    store64(iv.data(), counter);
    Origin origin;
    const Reason reason = sa.look(origin, 5, iv.data(), 0);
    return reason == Reason::delivered ? sa.accept(origin, 0) : reason;
  };
  for (const std::uint64_t counter : {beyond - 2, beyond - 1, beyond, beyond + 1}) CHECK(judge(*make(24), sender | counter) == Reason::delivered);
  for (const unsigned bits : {24U, 16U, 32U}) {
    for (const std::uint64_t counter : {beyond - 2, beyond - 1, beyond, beyond + 1}) CHECK(judge(*make(bits), sender | counter) == Reason::replayed);
  }
}

TEST_CASE(a_cipher_that_does_not_count_goes_on_whatever_the_width_of_sender_ids) {
  const Keys keys(Cipher::aes_128_cbc, Integrity::hmac_sha1_96, 0xf2);
  for (std::uint64_t number = 1; number <= 4; ++number) {
    SaParameters parameters = keys.parameters();
    parameters.sender_id_bits = number % 2 == 0 ? 24 : 16;
    CHECK_EQUAL(Sa(parameters).next_sequence(0).sequence, number);
  }
}

TEST_CASE(a_sender_for_whom_there_is_no_memory_is_refused) {
  std::uint32_t spi = 0xa000;
  for (const bool is_timed : {false, true}) {
    const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0xa6);
    SaParameters parameters = keys.parameters(spi++);
    parameters.replay_window = 64;
    if (is_timed) parameters.time = TimeWindow{5, 10, -100, -100};
    Sa sa(parameters);
    receive(sa, 1, 5);
    Origin origin;
    CHECK(look(sa, origin, 2, 5) == Reason::delivered);
    largest_allocation = 0;
    const Reason reason = sa.accept(origin, 0);
    largest_allocation = unlimited;
    CHECK(reason == Reason::too_many_senders);
    receive(sa, 2, 5);
    CHECK(sa.accept(origin, 0) == Reason::replayed);
  }
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
  constexpr std::uint32_t each = 1U << 16;
  constexpr std::uint32_t count = KeyLedger::idle_octets / (each * SenderBudget::octets_for(64)) + 3;
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

// Windows that are widened later may take more than there is for those that nobody uses.
TEST_CASE(the_sa_that_was_made_last_keeps_its_windows_however_wide_they_became) {
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0xa5);
  const auto make = [&keys](std::uint32_t spi) {
    SaParameters parameters = keys.parameters(spi);
    parameters.replay_window = 64;
    return std::make_shared<Sa>(parameters);
  };
  constexpr std::uint32_t senders = KeyLedger::idle_octets / SenderBudget::octets_for(4096) + 100;
  {
    const auto sa = make(0x5100);
    for (std::uint32_t sender = 0; sender < senders; ++sender) receive(*sa, sender, 5);
    sa->keep_at_least(4096);
  }
  const auto other = make(0x5101);
  CHECK(is_replayed(*make(0x5100), 3, 5));
  receive(*other, 3, 5);
}

namespace {

// An SA that sends under the one key of these tests, and the IV of its next packet.
class Sending {
 public:
  Sending(Cipher cipher, std::uint8_t key, std::uint32_t sender, unsigned bits, std::uint64_t last = 0) {
    const Keys keys(cipher, traits(cipher).is_combined() ? Integrity::none : Integrity::hmac_sha1_96, key);
    SaParameters parameters = keys.parameters();
    parameters.sender_id = sender;
    parameters.sender_id_bits = bits;
    parameters.last_sequence = last;
    sa_ = std::make_shared<Sa>(parameters);
  }
  // 0 if there is none left.
  std::uint64_t next() {
    const Grant grant = sa_->next_sequence(0);
    return grant.reason == Reason::delivered ? grant.iv : 0;
  }

 private:
  std::shared_ptr<Sa> sa_;
};

}  // namespace

// As when everything is made anew: however many there are, none forgets what it has received.
TEST_CASE(all_that_were_in_use_at_once_are_remembered) {
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0xb6);
  const auto make_all = [&keys] {
    std::vector<std::shared_ptr<Sa>> sas;
    for (std::uint32_t number = 0; number < 300; ++number) {
      SaParameters parameters = keys.parameters(0x9000 + number);
      parameters.replay_window = 64;
      sas.push_back(std::make_shared<Sa>(parameters));
    }
    return sas;
  };
  for (const std::shared_ptr<Sa>& sa : make_all()) receive(*sa, 3, 5);
  std::size_t remembered = 0;
  for (const std::shared_ptr<Sa>& sa : make_all()) remembered += is_replayed(*sa, 3, 5) ? 1 : 0;
  CHECK_EQUAL(remembered, 300U);
}

TEST_CASE(ciphers_that_count_share_the_nonces_of_a_key) {
  std::set<std::uint64_t> ivs;
  for (const Cipher cipher : {Cipher::aes_128_gcm, Cipher::aes_128_gcm_8, Cipher::aes_128_gcm_12, Cipher::aes_128_gmac, Cipher::aes_128_ctr}) {
    CHECK(ivs.insert(Sending(cipher, 0xb1, 7, 24).next()).second);
  }
  CHECK_EQUAL(*ivs.rbegin(), std::uint64_t{7} << 40 | 5);
  CHECK_EQUAL(Sending(Cipher::aes_256_gcm, 0xb1, 7, 24).next(), std::uint64_t{7} << 40 | 1);  // another key
}

TEST_CASE(sender_ids_that_begin_an_iv_alike_share_its_numbers) {
  std::set<std::uint64_t> ivs;
  for (const auto& [sender, bits] : {std::pair{256U, 24U}, {1U, 16U}, {0x10000U, 32U}, {256U, 24U}}) {
    CHECK(ivs.insert(Sending(Cipher::aes_128_gcm, 0xb2, sender, bits).next()).second);
  }
  CHECK_EQUAL(*ivs.rbegin(), std::uint64_t{1} << 48 | 4);
}

TEST_CASE(a_short_sender_id_does_not_count_into_a_longer_one) {
  constexpr std::uint64_t place = std::uint64_t{257} << 40;  // of a Sender-ID of 24 bits, among the numbers of Sender-ID 1 in 16
  Sending wide(Cipher::aes_128_gcm, 0xb3, 1, 16, (std::uint64_t{1} << 40) - 3);
  CHECK_EQUAL(wide.next(), place - 2);
  Sending narrow(Cipher::aes_128_gcm, 0xb3, 257, 24);
  CHECK_EQUAL(narrow.next(), place + 1);
  CHECK_EQUAL(wide.next(), place - 1);
  CHECK_EQUAL(wide.next(), 0U);
  CHECK_EQUAL(narrow.next(), place + 2);
  CHECK_EQUAL(Sending(Cipher::aes_128_gcm, 0xb3, 0, 0).next(), 1U);
  CHECK_EQUAL(Sending(Cipher::aes_128_gcm, 0xb3, 0, 0, std::uint64_t{1} << 48).next(), 0U);
}

TEST_CASE(a_longer_sender_id_begins_behind_what_a_short_one_has_used) {
  constexpr std::uint64_t place = std::uint64_t{257} << 40;
  Sending wide(Cipher::aes_128_gcm, 0xb4, 1, 16, (std::uint64_t{1} << 40) + 9);
  CHECK_EQUAL(wide.next(), place + 10);
  CHECK_EQUAL(Sending(Cipher::aes_128_gcm, 0xb4, 257, 24).next(), place + 11);
  CHECK_EQUAL(wide.next(), 0U);
  Sending(Cipher::aes_128_gcm, 0xb4, 1, 16, (std::uint64_t{1} << 40) + 99);  // an earlier life of the process had come further
  CHECK_EQUAL(Sending(Cipher::aes_128_gcm, 0xb4, 257, 24).next(), place + 100);
}

TEST_CASE(no_iv_comes_twice_while_a_longer_sender_id_begins) {
  for (std::uint32_t turn = 0; turn < 20; ++turn) {
    const auto key = static_cast<std::uint8_t>(0xc0 + turn);
    const std::uint64_t place = std::uint64_t{1} << 40;  // of Sender-ID 257 of 24 bits, among the numbers of Sender-ID 1 in 16
    Sending wide(Cipher::aes_128_gcm, key, 1, 16, place - 500);
    std::array<std::vector<std::uint64_t>, 3> taken;
    std::atomic<bool> has_begun{false};
    const auto take = [&](std::vector<std::uint64_t>& ivs, Sending& sending) {
      for (int packet = 0; packet < 2000; ++packet) {
        if (const std::uint64_t iv = sending.next(); iv != 0) ivs.push_back(iv);
        if (packet == 100) has_begun = true;
      }
    };
    std::thread one([&] { take(taken[0], wide); }), other([&] { take(taken[1], wide); });
    while (!has_begun) std::this_thread::yield();
    Sending narrow(Cipher::aes_128_gcm, key, 257, 24);
    take(taken[2], narrow);
    one.join();
    other.join();
    std::set<std::uint64_t> all;
    std::size_t count = 0;
    for (const auto& ivs : taken) {
      all.insert(ivs.begin(), ivs.end());
      count += ivs.size();
    }
    CHECK_EQUAL(all.size(), count);
    CHECK_EQUAL(taken[2].size(), 2000U);
  }
}

TEST_CASE(keys_that_nobody_uses_are_bounded_without_windows_too) {
  const auto has_life_left = [](std::uint32_t spi, const Keys& keys) {
    SaParameters parameters = keys.parameters(spi);
    parameters.limits.hard_packets = 1;
    return Sa(parameters).lifetime().spend(1);
  };
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0xb5);
  const auto in_use = keys.sa(0x7000);
  CHECK(has_life_left(0x7000, keys));
  const auto last = static_cast<std::uint32_t>(0x7000 + KeyLedger::instance().idle_limit() + 2);
  for (std::uint32_t spi = 0x7001; spi <= last; ++spi) CHECK(has_life_left(spi, keys));
  CHECK(!has_life_left(last, keys));
  CHECK(has_life_left(0x7001, keys));
  CHECK(!has_life_left(0x7000, keys));  // in use, so kept
}
