#include <set>

#include "build.hpp"
#include "error.hpp"
#include "harness.hpp"
#include "random.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

Operation operation_on(Octets& octets, const Schedule& schedule, const Keys& keys, std::uint32_t length) {
  Operation operation{};
  operation.schedule = &schedule;
  operation.cipher = keys.cipher;
  operation.integrity = keys.integrity;
  operation.place(octets.data(), 8U + traits(keys.cipher).iv, length);
  std::memcpy(operation.iv.data(), octets.data() + 8, traits(keys.cipher).iv);
  return operation;
}

}  // namespace

TEST_CASE(both_des_engines_agree) {
  Random random(3);
  Crypto fast(DesEngine::ipsec_mb), portable(DesEngine::openssl);
  CHECK(!fast.uses_openssl_for_des());
  CHECK(portable.uses_openssl_for_des());
  for (const Cipher cipher : {Cipher::des_cbc, Cipher::triple_des_cbc}) {
    Keys keys(cipher, Integrity::hmac_sha1_96);
    keys.encryption = random.octets(keys.encryption.size());
    Schedule schedule;
    fast.prepare(schedule, cipher, keys.encryption, keys.integrity, keys.authentication, keys.salt);
    for (std::uint32_t length = 8; length <= 400; length += 8) {
      const Octets plain = random.octets(16 + length + 12);
      Octets one = plain, other = plain;
      Operation first = operation_on(one, schedule, keys, length);
      Operation second = operation_on(other, schedule, keys, length);
      fast.seal({&first, 1});
      portable.seal({&second, 1});
      CHECK(first.is_done && second.is_done);
      CHECK(one == other);
      first = operation_on(one, schedule, keys, length);
      second = operation_on(other, schedule, keys, length);
      portable.open({&first, 1});
      fast.open({&second, 1});
      CHECK(first.is_authentic && second.is_authentic && first.is_done && second.is_done);
      CHECK(std::equal(plain.begin(), plain.begin() + 16 + length, one.begin()));
      CHECK(std::equal(plain.begin(), plain.begin() + 16 + length, other.begin()));
    }
  }
}

TEST_CASE(comparison_sees_every_octet) {
  const Octets left(32, 7);
  CHECK(is_equal_constant_time(left.data(), left.data(), 32));
  for (std::size_t at = 0; at < 32; ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      Octets right = left;
      right[at] = static_cast<std::uint8_t>(right[at] ^ 1 << bit);
      CHECK(!is_equal_constant_time(left.data(), right.data(), 32));
    }
  }
}

TEST_CASE(sha256_of_abc) {
  Crypto crypto;
  const Octets text = {'a', 'b', 'c'};
  const auto digest = crypto.sha256(text);
  CHECK_EQUAL(load32(digest.data()), 0xba7816bfU);  // FIPS 180-4 example
  CHECK_EQUAL(load32(digest.data() + 28), 0xf20015adU);
}

TEST_CASE(names_and_sizes_that_do_not_exist) {
  const auto refuses = [](auto body) {
    try {
      body();
    } catch (const EngineError&) {
      return true;
    }
    return false;
  };
  CHECK(refuses([] { cipher_named("seal"); }));
  CHECK(refuses([] { integrity_named(""); }));
  for (const Keys& keys : all_transforms()) {
    Keys wrong = keys;
    wrong.encryption.push_back(0);
    CHECK(refuses([&] { static_cast<void>(wrong.sa()); }));
    wrong = keys;
    wrong.authentication.push_back(0);
    CHECK(refuses([&] { static_cast<void>(wrong.sa()); }));
    wrong = keys;
    wrong.salt.push_back(0);
    CHECK(refuses([&] { static_cast<void>(wrong.sa()); }));
  }
}

TEST_CASE(random_octets_do_not_repeat) {
  Crypto crypto;
  RandomOctets one(crypto), other(crypto);
  std::set<Octets> seen;
  for (int turn = 0; turn < 20000; ++turn) {
    for (RandomOctets* source : {&one, &other}) {
      Octets iv(16);
      source->take(iv.data(), iv.size());
      CHECK(seen.insert(iv).second);
    }
  }
}
