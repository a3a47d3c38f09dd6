#include <set>

#include <string_view>

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

namespace {

Octets hex(std::string_view text) {
  const auto digit = [](char letter) { return static_cast<std::uint8_t>(letter <= '9' ? letter - '0' : letter - 'a' + 10); };
  Octets octets;
  for (std::size_t at = 0; at < text.size(); at += 2) octets.push_back(static_cast<std::uint8_t>(digit(text[at]) << 4 | digit(text[at + 1])));
  return octets;
}

Octets text(std::string_view octets) { return {octets.begin(), octets.end()}; }

}  // namespace

TEST_CASE(macs_of_their_standards) {
  struct Vector {
    Integrity integrity;
    std::uint8_t key;  // this octet, as often as the key is long
    Octets data;
    std::string_view icv;
  };
  const Octets greeting = text("Hi There"), fifty(50, 0xdd);
  const Vector vectors[] = {
      {Integrity::hmac_md5_96, 0x0b, greeting, "9294727a3638bb1c13f48ef8"},        // RFC 2202 2, test cases 1 and 3
      {Integrity::hmac_md5_96, 0xaa, fifty, "56be34521d144c88dbb8c733"},           //
      {Integrity::hmac_sha1_96, 0x0b, greeting, "b617318655057264e28bc0b6"},       // RFC 2202 3, test cases 1 and 3
      {Integrity::hmac_sha1_96, 0xaa, fifty, "125d7342b9ac11cd91a39af4"},          //
      {Integrity::hmac_sha2_256_128, 0x0b, greeting, "198a607eb44bfbc69903a0f1cf2bbdc5"},  // RFC 4868 2.7.2
      {Integrity::hmac_sha2_384_192, 0x0b, greeting, "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973"},
      {Integrity::hmac_sha2_512_256, 0x0b, greeting, "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8"},
  };
  Crypto crypto;
  for (const Vector& vector : vectors) {
    const Keys keys(Cipher::null, vector.integrity, vector.key);
    Schedule schedule;
    crypto.prepare(schedule, keys.cipher, keys.encryption, keys.integrity, keys.authentication, keys.salt);
    Octets octets = vector.data;
    octets.resize(octets.size() + traits(vector.integrity).icv);
    Operation operation{};
    operation.schedule = &schedule;
    operation.cipher = Cipher::null;
    operation.integrity = vector.integrity;
    operation.place(octets.data(), 0, static_cast<std::uint32_t>(vector.data.size()));
    crypto.seal({&operation, 1});
    CHECK(operation.is_done);
    CHECK(Octets(octets.begin() + static_cast<long>(vector.data.size()), octets.end()) == hex(vector.icv));
  }
}

TEST_CASE(counter_mode_of_rfc_3686) {
  struct Vector {
    Cipher cipher;
    std::string_view key, nonce_and_iv, plain, sealed;
  };
  const std::string_view one = "53696e676c6520626c6f636b206d7367", two = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
  const Vector vectors[] = {  // test vectors 1, 2, 5 and 7
      {Cipher::aes_128_ctr, "ae6852f8121067cc4bf7a5765577f39e", "000000300000000000000000", one, "e4095d4fb7a7b3792d6175a3261311b8"},
      {Cipher::aes_128_ctr, "7e24067817fae0d743d6ce1f32539163", "006cb6dbc0543b59da48d90b", two,
       "5104a106168a72d9790d41ee8edad388eb2e1efc46da57c8fce630df9141be28"},
      {Cipher::aes_192_ctr, "7c5cb2401b3dc33c19e7340819e0f69c678c3db8e6f6a91a", "0096b03b020c6eadc2cb500d", two,
       "453243fc609b23327edfaafa7131cd9f8490701c5ad4a79cfc1fe0ff42f4fb00"},
      {Cipher::aes_256_ctr, "776beff2851db06f4c8a0542c8696f6c6a81af1eec96b4d37fc1d689e6c1c104", "00000060db5672c97aa8f0b2", one,
       "145ad01dbf824ec7560863dc71e3e0c0"},
  };
  Crypto crypto;
  for (const Vector& vector : vectors) {
    Keys keys(vector.cipher, Integrity::hmac_sha1_96);
    keys.encryption = hex(vector.key);
    const Octets nonce = hex(vector.nonce_and_iv), plain = hex(vector.plain);
    keys.salt.assign(nonce.begin(), nonce.begin() + 4);
    Schedule schedule;
    crypto.prepare(schedule, keys.cipher, keys.encryption, keys.integrity, keys.authentication, keys.salt);
    Octets octets(16);  // SPI, sequence number, IV
    octets.insert(octets.end(), plain.begin(), plain.end());
    octets.resize(octets.size() + 12);
    Operation operation{};
    operation.schedule = &schedule;
    operation.cipher = keys.cipher;
    operation.integrity = keys.integrity;
    std::copy(nonce.begin(), nonce.end(), operation.iv.begin());
    operation.place(octets.data(), 16, static_cast<std::uint32_t>(plain.size()));
    crypto.seal({&operation, 1});
    CHECK(Octets(octets.begin() + 16, octets.end() - 12) == hex(vector.sealed));
  }
}
