#include "sa.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <new>
#include <set>
#include <thread>

#include "build.hpp"
#include "error.hpp"
#include "harness.hpp"
#include "path.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

TEST_CASE(keys_are_wiped_when_an_sa_goes) {
  for (const Keys& keys : all_transforms()) {
    alignas(Sa) static std::uint8_t storage[sizeof(Sa)];
    std::fill(std::begin(storage), std::end(storage), std::uint8_t{0xee});
    Sa* sa = new (storage) Sa(keys.parameters());
    const auto at = static_cast<std::size_t>(reinterpret_cast<const std::uint8_t*>(&sa->schedule()) - storage);
    volatile const std::uint8_t* octets = storage + at;  // what is left there is not an object any more
    std::size_t before = 0, after = 0;
    for (std::size_t index = 0; index < sizeof(Schedule); ++index) before += octets[index] != 0;
    sa->~Sa();
    for (std::size_t index = 0; index < sizeof(Schedule); ++index) after += octets[index] != 0;
    CHECK(before >= 16);
    CHECK_EQUAL(after, 0U);
  }
}

TEST_CASE(a_replaced_table_lets_its_sas_go) {
  Snapshot<SaTable> snapshot;
  std::weak_ptr<Sa> watched;
  {
    auto table = std::make_shared<SaTable>();
    const std::shared_ptr<Sa> sa = Keys(Cipher::aes_128_gcm, Integrity::none).sa();
    watched = sa;
    table->inbound = SaSet({sa});
    table->outbound = {{sa}};
    snapshot.set(std::move(table));
  }
  std::shared_ptr<const SaTable> in_flight = snapshot.get();
  snapshot.set(std::make_shared<SaTable>());
  CHECK(!watched.expired());
  CHECK(in_flight->inbound.find(0x1000) != nullptr);
  in_flight.reset();
  CHECK(watched.expired());
}

TEST_CASE(an_sa_is_found_by_its_spi) {
  const Keys keys(Cipher::aes_128_cbc, Integrity::hmac_sha1_96);
  CHECK(SaSet().find(256) == nullptr);
  Random random(4);
  for (const std::size_t count : {1U, 2U, 3U, 16U, 200U}) {
    std::set<std::uint32_t> spis;
    while (spis.size() < count) spis.insert(256 + random.below(count < 10 ? 20 : 0xfffffe00));
    std::vector<std::shared_ptr<Sa>> sas;
    for (const std::uint32_t spi : spis) sas.push_back(keys.sa(spi));
    std::shuffle(sas.begin(), sas.end(), random.engine());
    const SaSet set(sas);
    for (const auto& sa : sas) CHECK(set.find(sa->spi()) == sa.get());
    for (int turn = 0; turn < 2000; ++turn) {
      const std::uint32_t spi = 256 + random.below(count < 10 ? 40 : 0xfffffe00);
      CHECK_EQUAL(set.find(spi) != nullptr, spis.contains(spi));
    }
  }
}

TEST_CASE(an_sa_has_the_tag_that_it_was_given) {
  const Keys keys(Cipher::aes_128_cbc, Integrity::hmac_sha1_96);
  const auto one = keys.sa(256), other = keys.sa(257), third = keys.sa(258);
  const SaSet set({one, other, third}, {{256, {1, 2}}, {258, {3, 4}}, {999, {5, 6}}});
  CHECK(set.tag_of(*one) == (Tag{1, 2}));
  CHECK(set.tag_of(*other) == Tag{});
  CHECK(set.tag_of(*third) == (Tag{3, 4}));
}

TEST_CASE(two_sas_with_one_spi_are_refused) {
  const Keys keys(Cipher::aes_128_cbc, Integrity::hmac_sha1_96);
  const auto sa = keys.sa();
  SaSet({sa, sa});  // the same one twice is no contradiction
  bool is_refused = false;
  try {
    SaSet({sa, keys.sa()});
  } catch (const EngineError&) {
    is_refused = true;
  }
  CHECK(is_refused);
}

TEST_CASE(threads_never_get_the_same_number) {
  const auto one = Keys(Cipher::aes_256_gcm, Integrity::none, 0x77).sa();
  const auto twin = Keys(Cipher::aes_256_gcm, Integrity::none, 0x77).sa(0x2000);  // the same keys: the same sequence
  std::vector<std::vector<std::uint64_t>> taken(4);
  std::vector<std::thread> threads;
  for (std::size_t index = 0; index < taken.size(); ++index) {
    threads.emplace_back([&, index] {
      for (int turn = 0; turn < 20000; ++turn) taken[index].push_back((index % 2 ? one : twin)->next_sequence().iv);
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::set<std::uint64_t> all;
  for (const auto& numbers : taken) all.insert(numbers.begin(), numbers.end());
  CHECK_EQUAL(all.size(), 80000U);
}

TEST_CASE(a_used_up_sequence_stays_used_up) {
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0x78);
  SaParameters parameters = keys.parameters();
  parameters.sender_id_bits = 32;
  parameters.last_sequence = 0xffffffff - 1000;
  Sa sa(parameters);
  std::atomic<int> granted{0};
  std::vector<std::thread> threads;
  for (int index = 0; index < 4; ++index) {
    threads.emplace_back([&] {
      for (int turn = 0; turn < 2000; ++turn) granted += sa.next_sequence().reason == Reason::delivered;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_EQUAL(granted.load(), 1000);
  CHECK_EQUAL(sa.last_sequence(), 0xffffffffU);
  CHECK(sa.next_sequence().reason == Reason::sequence_exhausted);
}

TEST_CASE(an_sa_at_its_limit_does_not_disturb_another_one_of_its_key) {
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0x79);
  SaParameters parameters = keys.parameters();
  parameters.last_sequence = 0xffffffff;
  Sa beyond(parameters);
  parameters.replay_window = 64;  // which ends a sequence at 2^32 - 1
  Sa ended(parameters);
  std::atomic<bool> is_done{false};
  std::vector<std::thread> threads;
  for (int index = 0; index < 2; ++index) {
    threads.emplace_back([&] {
      while (!is_done.load(std::memory_order_relaxed)) CHECK(ended.next_sequence().reason == Reason::sequence_exhausted);
    });
  }
  std::uint64_t last = 0, repeated = 0;
  for (int turn = 0; turn < 300000; ++turn) {
    const std::uint64_t iv = beyond.next_sequence(0).iv;
    repeated += iv <= last;
    last = iv;
  }
  is_done = true;
  for (std::thread& thread : threads) thread.join();
  CHECK_EQUAL(repeated, 0U);
}

TEST_CASE(what_fits_the_wire_is_exact) {
  for (const Keys& keys : all_transforms()) {
    const auto sa = keys.sa();
    for (std::uint32_t mtu = 256; mtu < 700; ++mtu) {
      const std::uint32_t inner = sa->inner_mtu(mtu);
      const auto outer = [&](std::uint32_t length) {
        const std::uint32_t padded = (length + 2 + sa->alignment() - 1) / sa->alignment() * sa->alignment();
        return 28 + sa->iv_length() + padded + sa->icv_length();
      };
      CHECK(outer(inner) <= mtu);
      CHECK(outer(inner + 1) > mtu);
    }
    CHECK_EQUAL(sa->inner_mtu(40), 0U);
  }
}

namespace {

// Two threads that take a step at the same time, again and again.
class Pace {
 public:
  void wait() noexcept {
    const std::uint32_t turn = arrived_.fetch_add(1) / 2;
    for (std::uint32_t patience = 0; arrived_ / 2 <= turn; ++patience) {
      if (patience > 1000) std::this_thread::yield();
    }
  }

 private:
  std::atomic<std::uint32_t> arrived_{0};
};

}  // namespace

// As two workers have it, or two ports: of two copies one is new. On few processors ThreadSanitizer sees what they share better than the numbers show it.
TEST_CASE(threads_take_no_packet_twice) {
  constexpr std::uint32_t packets = 20'000, each = 10;  // of a sender
  for (const bool is_timed : {false, true}) {
    const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0x7a);
    SaParameters parameters = keys.parameters();
    parameters.replay_window = 64;
    parameters.is_apart = true;
    if (is_timed) parameters.time = TimeWindow{100, 10, -1000, -1000};
    Sa sa(parameters);
    Pace pace;
    std::array<std::uint32_t, 2> delivered{}, replayed{};
    std::vector<std::thread> threads;
    for (std::size_t index = 0; index < delivered.size(); ++index) {
      threads.emplace_back([&, index] {
        for (std::uint32_t packet = 0; packet < packets; ++packet) {
          std::array<std::uint8_t, 8> iv;
          store64(iv.data(), std::uint64_t{1 + packet / each} << 40 | (1 + packet % each));
          Origin origin;
          Reason reason = sa.look(origin, is_timed ? 100 : 1 + packet % each, iv.data(), 0);
          if (reason == Reason::delivered) reason = sa.accept(origin, 0);
          delivered[index] += reason == Reason::delivered;
          replayed[index] += reason == Reason::replayed;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK_EQUAL(delivered[0] + delivered[1], packets);
    CHECK_EQUAL(replayed[0] + replayed[1], packets);
  }
}
