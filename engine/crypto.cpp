#include "crypto.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "des.hpp"
#include "error.hpp"
#include "packet.hpp"

namespace groupvpn {
namespace {

constexpr std::array<CipherTraits, 21> cipher_table = {{
    {Cipher::null, CipherKind::null, "null", 0, 0, 4, 0, 0},                           // RFC 2410
    {Cipher::des_cbc, CipherKind::des_cbc, "des-cbc", 8, 8, 8, 0, 0},                  // RFC 2405
    {Cipher::triple_des_cbc, CipherKind::triple_des_cbc, "3des-cbc", 24, 8, 8, 0, 0},  // RFC 2451
    {Cipher::aes_128_cbc, CipherKind::aes_cbc, "aes-128-cbc", 16, 16, 16, 0, 0},       // RFC 3602
    {Cipher::aes_192_cbc, CipherKind::aes_cbc, "aes-192-cbc", 24, 16, 16, 0, 0},       //
    {Cipher::aes_256_cbc, CipherKind::aes_cbc, "aes-256-cbc", 32, 16, 16, 0, 0},       //
    {Cipher::aes_128_gcm, CipherKind::aes_gcm, "aes-128-gcm", 16, 8, 4, 4, 16},        // RFC 4106
    {Cipher::aes_192_gcm, CipherKind::aes_gcm, "aes-192-gcm", 24, 8, 4, 4, 16},        //
    {Cipher::aes_256_gcm, CipherKind::aes_gcm, "aes-256-gcm", 32, 8, 4, 4, 16},        //
    {Cipher::aes_128_gcm_8, CipherKind::aes_gcm, "aes-128-gcm-8", 16, 8, 4, 4, 8},     // with a shorter ICV (RFC 4106 6)
    {Cipher::aes_192_gcm_8, CipherKind::aes_gcm, "aes-192-gcm-8", 24, 8, 4, 4, 8},     //
    {Cipher::aes_256_gcm_8, CipherKind::aes_gcm, "aes-256-gcm-8", 32, 8, 4, 4, 8},     //
    {Cipher::aes_128_gcm_12, CipherKind::aes_gcm, "aes-128-gcm-12", 16, 8, 4, 4, 12},  //
    {Cipher::aes_192_gcm_12, CipherKind::aes_gcm, "aes-192-gcm-12", 24, 8, 4, 4, 12},  //
    {Cipher::aes_256_gcm_12, CipherKind::aes_gcm, "aes-256-gcm-12", 32, 8, 4, 4, 12},  //
    {Cipher::aes_128_gmac, CipherKind::aes_gmac, "aes-128-gmac", 16, 8, 4, 4, 16},     // RFC 4543: authenticated, not encrypted
    {Cipher::aes_192_gmac, CipherKind::aes_gmac, "aes-192-gmac", 24, 8, 4, 4, 16},     //
    {Cipher::aes_256_gmac, CipherKind::aes_gmac, "aes-256-gmac", 32, 8, 4, 4, 16},     //
    {Cipher::aes_128_ctr, CipherKind::aes_ctr, "aes-128-ctr", 16, 8, 4, 4, 0},         // RFC 3686
    {Cipher::aes_192_ctr, CipherKind::aes_ctr, "aes-192-ctr", 24, 8, 4, 4, 0},         //
    {Cipher::aes_256_ctr, CipherKind::aes_ctr, "aes-256-ctr", 32, 8, 4, 4, 0},         //
}};

constexpr bool stands_in_order() {
  for (std::size_t index = 0; index < cipher_table.size(); ++index) {
    if (cipher_table[index].cipher != static_cast<Cipher>(index)) return false;
  }
  return true;
}
static_assert(stands_in_order(), "a cipher is found by its number");

constexpr std::array<IntegrityTraits, 6> integrity_table = {{
    {"none", 0, 0},
    {"hmac-md5-96", 16, 12},        // RFC 2403
    {"hmac-sha1-96", 20, 12},       // RFC 2404
    {"hmac-sha2-256-128", 32, 16},  // RFC 4868
    {"hmac-sha2-384-192", 48, 24},  //
    {"hmac-sha2-512-256", 64, 32},  //
}};

template <typename Table>
std::size_t find_named(const Table& table, std::string_view name, const char* what) {
  for (std::size_t index = 0; index < table.size(); ++index) {
    if (table[index].name == name) return index;
  }
  throw EngineError("unknown " + std::string(what) + " \"" + std::string(name) + "\"");
}

void check_size(const char* what, std::string_view algorithm, std::size_t given, std::size_t wanted) {
  if (given == wanted) return;
  throw EngineError(std::string(what) + " of " + std::string(algorithm) + " has " + std::to_string(given) + " octets, it needs " +
                    std::to_string(wanted));
}

bool is_des(CipherKind kind) noexcept { return kind == CipherKind::des_cbc || kind == CipherKind::triple_des_cbc; }

IMB_HASH_ALG hash_algorithm(Integrity integrity) noexcept {
  switch (integrity) {
    case Integrity::hmac_md5_96: return IMB_AUTH_MD5;
    case Integrity::hmac_sha1_96: return IMB_AUTH_HMAC_SHA_1;
    case Integrity::hmac_sha2_256_128: return IMB_AUTH_HMAC_SHA_256;
    case Integrity::hmac_sha2_384_192: return IMB_AUTH_HMAC_SHA_384;
    case Integrity::hmac_sha2_512_256: return IMB_AUTH_HMAC_SHA_512;
    case Integrity::none: break;
  }
  return IMB_AUTH_NULL;
}

void settle(IMB_JOB* job) noexcept { static_cast<Operation*>(job->user_data)->is_done = job->status == IMB_STATUS_COMPLETED; }

}  // namespace

const CipherTraits& traits(Cipher cipher) noexcept { return cipher_table[static_cast<std::size_t>(cipher)]; }
const IntegrityTraits& traits(Integrity integrity) noexcept { return integrity_table[static_cast<std::size_t>(integrity)]; }
Cipher cipher_named(std::string_view name) { return static_cast<Cipher>(find_named(cipher_table, name, "cipher")); }
Integrity integrity_named(std::string_view name) { return static_cast<Integrity>(find_named(integrity_table, name, "integrity algorithm")); }

Schedule::~Schedule() { explicit_bzero(static_cast<void*>(this), sizeof *this); }

void Operation::cover_upper_half(std::uint64_t sequence) noexcept {
  const auto upper = static_cast<std::uint32_t>(sequence >> 32);
  if (traits(cipher).is_combined()) {
    extended = upper;
    return;
  }
  store32(begin + covered, upper);
  covered += 4;
}

bool is_equal_constant_time(const std::uint8_t* left, const std::uint8_t* right, std::size_t length) noexcept {
  std::uint32_t difference = 0;
  for (std::size_t index = 0; index < length; ++index) difference |= static_cast<std::uint32_t>(left[index] ^ right[index]);
  __asm__ volatile("" : "+r"(difference));  // keeps the compiler from leaving the loop early
  return difference == 0;
}

Crypto::Crypto(DesEngine des_engine) : manager_(alloc_mb_mgr(0)) {
  if (!manager_) throw EngineError("intel-ipsec-mb has no memory for a multi-buffer manager");
  init_mb_mgr_auto(manager_.get(), nullptr);
  if (const int error = imb_get_errno(manager_.get()); error != 0) {
    throw EngineError(std::string("intel-ipsec-mb does not run on this processor: ") + imb_get_strerror(error));
  }
  const bool is_des_fast = (manager_->features & IMB_FEATURE_AVX512_SKX) == IMB_FEATURE_AVX512_SKX;
  if (des_engine == DesEngine::openssl || (des_engine == DesEngine::automatic && !is_des_fast)) des_ = std::make_unique<DesCbc>();
}

Crypto::~Crypto() = default;

std::string_view Crypto::architecture() const noexcept {
  switch (manager_->used_arch) {
    case IMB_ARCH_NOAESNI: return "no-aesni";
    case IMB_ARCH_SSE: return "sse";
    case IMB_ARCH_AVX: return "avx";
    case IMB_ARCH_AVX2: return "avx2";
    case IMB_ARCH_AVX512: return "avx512";
    default: return "unknown";
  }
}

bool Crypto::goes_to_openssl(CipherKind kind) const noexcept { return des_ && is_des(kind); }

void Crypto::prepare(Schedule& schedule, Cipher cipher, std::span<const std::uint8_t> encryption_key, Integrity integrity,
                     std::span<const std::uint8_t> integrity_key, std::span<const std::uint8_t> salt) {
  const CipherTraits& cipher_traits = traits(cipher);
  check_size("the encryption key", cipher_traits.name, encryption_key.size(), cipher_traits.key);
  check_size("the salt", cipher_traits.name, salt.size(), cipher_traits.salt);
  check_size("the integrity key", traits(integrity).name, integrity_key.size(), traits(integrity).key);
  if (cipher_traits.icv == 0 && integrity == Integrity::none) {
    throw EngineError(std::string(cipher_traits.name) + " needs an integrity algorithm (RFC 8221 4)");
  }
  if (cipher_traits.icv != 0 && integrity != Integrity::none) {
    throw EngineError(std::string(cipher_traits.name) + " authenticates by itself and takes no integrity algorithm (RFC 4303 3.2.3)");
  }
  std::memset(static_cast<void*>(&schedule), 0, sizeof schedule);
  std::copy(salt.begin(), salt.end(), schedule.salt.begin());
  prepare_cipher(schedule, cipher, encryption_key.data());
  if (integrity != Integrity::none) prepare_hmac(schedule, integrity, integrity_key);
}

void Crypto::prepare_blocks(Schedule& schedule, Cipher cipher, const std::uint8_t* key) noexcept {
  std::memset(static_cast<void*>(&schedule), 0, sizeof schedule);
  prepare_cipher(schedule, cipher, key);
}

void Crypto::prepare_cipher(Schedule& schedule, Cipher cipher, const std::uint8_t* key) noexcept {
  const CipherTraits& cipher_traits = traits(cipher);
  switch (cipher_traits.kind) {
    case CipherKind::null: break;
    case CipherKind::aes_ctr:
    case CipherKind::aes_cbc: expand_aes(schedule, key, cipher_traits.key); break;
    case CipherKind::aes_gmac:
    case CipherKind::aes_gcm: expand_gcm(schedule, key, cipher_traits.key); break;
    case CipherKind::des_cbc:
    case CipherKind::triple_des_cbc:
      for (std::size_t round = 0; round < 3; ++round) {
        const std::uint8_t* part = cipher_traits.kind == CipherKind::des_cbc ? key : key + 8 * round;
        std::memcpy(schedule.des_key.data() + 8 * round, part, 8);
        IMB_DES_KEYSCHED(manager_.get(), schedule.des[round].data(), part);
        schedule.des_rounds[round] = schedule.des[round].data();
      }
      break;
  }
}

void Crypto::expand_aes(Schedule& schedule, const std::uint8_t* key, std::size_t length) noexcept {
  IMB_MGR* manager = manager_.get();
  switch (length) {
    case IMB_KEY_128_BYTES: IMB_AES_KEYEXP_128(manager, key, schedule.aes_encrypt.data(), schedule.aes_decrypt.data()); break;
    case IMB_KEY_192_BYTES: IMB_AES_KEYEXP_192(manager, key, schedule.aes_encrypt.data(), schedule.aes_decrypt.data()); break;
    default: IMB_AES_KEYEXP_256(manager, key, schedule.aes_encrypt.data(), schedule.aes_decrypt.data()); break;
  }
}

void Crypto::expand_gcm(Schedule& schedule, const std::uint8_t* key, std::size_t length) noexcept {
  IMB_MGR* manager = manager_.get();
  switch (length) {
    case IMB_KEY_128_BYTES: IMB_AES128_GCM_PRE(manager, key, &schedule.gcm); break;
    case IMB_KEY_192_BYTES: IMB_AES192_GCM_PRE(manager, key, &schedule.gcm); break;
    default: IMB_AES256_GCM_PRE(manager, key, &schedule.gcm); break;
  }
}

void Crypto::prepare_hmac(Schedule& schedule, Integrity integrity, std::span<const std::uint8_t> key) {
  const bool is_wide = integrity == Integrity::hmac_sha2_384_192 || integrity == Integrity::hmac_sha2_512_256;
  const std::size_t block_size = is_wide ? IMB_SHA_512_BLOCK_SIZE : IMB_SHA_256_BLOCK_SIZE;
  std::array<std::uint8_t, IMB_SHA_512_BLOCK_SIZE> block;
  const auto absorb = [&](std::uint8_t pad, std::uint8_t* state) {
    block.fill(pad);
    for (std::size_t index = 0; index < key.size() && index < block_size; ++index) block[index] ^= key[index];
    switch (integrity) {
      case Integrity::hmac_md5_96: IMB_MD5_ONE_BLOCK(manager_.get(), block.data(), state); break;
      case Integrity::hmac_sha1_96: IMB_SHA1_ONE_BLOCK(manager_.get(), block.data(), state); break;
      case Integrity::hmac_sha2_256_128: IMB_SHA256_ONE_BLOCK(manager_.get(), block.data(), state); break;
      case Integrity::hmac_sha2_384_192: IMB_SHA384_ONE_BLOCK(manager_.get(), block.data(), state); break;
      case Integrity::hmac_sha2_512_256: IMB_SHA512_ONE_BLOCK(manager_.get(), block.data(), state); break;
      case Integrity::none: break;
    }
  };
  absorb(0x36, schedule.hmac_inner.data());
  absorb(0x5c, schedule.hmac_outer.data());
  explicit_bzero(block.data(), block.size());
}

// `aad` are `header_length` octets that end where the IV begins.
void Crypto::run_gcm(Operation& operation, bool encrypt, const std::uint8_t* aad, std::uint64_t header_length) noexcept {
  const std::size_t key_length = traits(operation.cipher).key;
  const aes_gcm_enc_dec_t function = key_length == 16   ? (encrypt ? manager_->gcm128_enc : manager_->gcm128_dec)
                                     : key_length == 24 ? (encrypt ? manager_->gcm192_enc : manager_->gcm192_dec)
                                                        : (encrypt ? manager_->gcm256_enc : manager_->gcm256_dec);
  const std::uint64_t tag_length = traits(operation.cipher).icv;
  // Authenticated and not encrypted: SPI and sequence number (RFC 4106 5); with GMAC the IV and the payload as well (RFC 4543 3.3).
  const bool is_clear = traits(operation.cipher).kind == CipherKind::aes_gmac;
  const std::uint64_t aad_length = is_clear ? header_length + traits(operation.cipher).iv + operation.payload_length : header_length;
  const std::uint64_t text_length = is_clear ? 0 : operation.payload_length;
  gcm_context_data context;
  function(&operation.schedule->gcm, &context, operation.payload(), operation.payload(), text_length, operation.iv.data(), aad, aad_length,
           encrypt ? operation.tag : operation.icv.data(), tag_length);
  operation.is_done = true;
}

void Crypto::run_gcm(Operation& operation, bool encrypt) noexcept {
  if (operation.extended) return run_extended_gcm(operation, encrypt);
  run_gcm(operation, encrypt, operation.begin, 8);
}

// The authenticated header is SPI, upper and lower half of the sequence number (RFC 4106 5, RFC 4543 3.3). It must be in one piece with what
// follows, so for as long as this takes the SPI moves into the four octets before it, and the upper half into its place.
void Crypto::run_extended_gcm(Operation& operation, bool encrypt) noexcept {
  std::uint8_t* aad = operation.begin - 4;
  std::array<std::uint8_t, 8> before;
  std::memcpy(before.data(), aad, before.size());
  std::memcpy(aad, operation.begin, 4);
  store32(operation.begin, *operation.extended);
  run_gcm(operation, encrypt, aad, 12);
  std::memcpy(aad, before.data(), before.size());
}

void Crypto::set_cipher(IMB_JOB& job, const Operation& operation, bool encrypt) const noexcept {
  const Schedule& schedule = *operation.schedule;
  job.enc_keys = schedule.aes_encrypt.data();
  job.dec_keys = schedule.aes_decrypt.data();
  job.key_len_in_bytes = traits(operation.cipher).key;
  job.iv_len_in_bytes = traits(operation.cipher).iv;
  const CipherKind kind = traits(operation.cipher).kind;
  job.cipher_mode = IMB_CIPHER_CBC;
  if (kind == CipherKind::aes_ctr) {
    job.cipher_mode = IMB_CIPHER_CNTR;
    job.iv_len_in_bytes += traits(operation.cipher).salt;  // the library adds the block counter, which begins at 1 (RFC 3686 4)
  } else if (kind == CipherKind::null || goes_to_openssl(kind)) {
    job.cipher_mode = IMB_CIPHER_NULL;
  } else if (is_des(kind)) {
    const bool is_single = kind == CipherKind::des_cbc;
    job.cipher_mode = is_single ? IMB_CIPHER_DES : IMB_CIPHER_DES3;
    job.enc_keys = is_single ? schedule.des_rounds[0] : static_cast<const void*>(schedule.des_rounds.data());
    job.dec_keys = job.enc_keys;
  }
  job.cipher_direction = encrypt ? IMB_DIR_ENCRYPT : IMB_DIR_DECRYPT;
  job.chain_order = encrypt ? IMB_ORDER_CIPHER_HASH : IMB_ORDER_HASH_CIPHER;  // the ICV covers the ciphertext (RFC 4303 3.3.2)
}

void Crypto::submit(Operation& operation, bool encrypt) noexcept {
  IMB_JOB* job = IMB_GET_NEXT_JOB(manager_.get());
  set_cipher(*job, operation, encrypt);
  job->src = operation.begin;
  job->dst = operation.payload();
  job->iv = operation.iv.data();
  job->cipher_start_src_offset_in_bytes = operation.payload_offset;
  job->msg_len_to_cipher_in_bytes = operation.payload_length;
  job->hash_alg = hash_algorithm(operation.integrity);
  job->hash_start_src_offset_in_bytes = 0;
  job->msg_len_to_hash_in_bytes = operation.covered;
  job->u.HMAC._hashed_auth_key_xor_ipad = operation.schedule->hmac_inner.data();
  job->u.HMAC._hashed_auth_key_xor_opad = operation.schedule->hmac_outer.data();
  job->auth_tag_output = encrypt ? operation.tag : operation.icv.data();
  job->auth_tag_output_len_in_bytes = traits(operation.integrity).icv;
  job->user_data = &operation;
  operation.is_done = false;
  for (job = IMB_SUBMIT_JOB(manager_.get()); job != nullptr; job = IMB_GET_COMPLETED_JOB(manager_.get())) settle(job);
}

void Crypto::flush() noexcept {
  while (IMB_JOB* job = IMB_FLUSH_JOB(manager_.get())) settle(job);
}

void Crypto::seal(std::span<Operation> burst) noexcept {
  for (Operation& operation : burst) {
    if (traits(operation.cipher).is_combined()) {
      run_gcm(operation, true);
      continue;
    }
    if (goes_to_openssl(traits(operation.cipher).kind) &&
        !des_->run(operation.schedule->des_key.data(), operation.iv.data(), operation.payload(), operation.payload_length, true)) {
      operation.is_done = false;
      continue;
    }
    submit(operation, true);
  }
  flush();
}

void Crypto::open(std::span<Operation> burst) noexcept {
  for (Operation& operation : burst) {
    if (traits(operation.cipher).is_combined()) {
      run_gcm(operation, false);
    } else {
      submit(operation, false);
    }
  }
  flush();
  for (Operation& operation : burst) {
    const std::size_t length = traits(operation.cipher).icv + traits(operation.integrity).icv;  // one of them is 0
    operation.is_authentic = operation.is_done && is_equal_constant_time(operation.icv.data(), operation.expected_tag(), length);
    if (operation.is_authentic && goes_to_openssl(traits(operation.cipher).kind)) {
      operation.is_done =
          des_->run(operation.schedule->des_key.data(), operation.iv.data(), operation.payload(), operation.payload_length, false);
    }
  }
}

bool Crypto::keystream(std::span<const std::uint8_t, 32> key, std::span<std::uint8_t> out) noexcept {
  alignas(16) std::array<std::uint8_t, 16 * 15> encrypt;
  alignas(16) std::array<std::uint8_t, 16 * 15> decrypt;
  alignas(16) constexpr std::array<std::uint8_t, 16> counter = {};
  IMB_AES_KEYEXP_256(manager_.get(), key.data(), encrypt.data(), decrypt.data());
  std::memset(out.data(), 0, out.size());
  IMB_JOB* job = IMB_GET_NEXT_JOB(manager_.get());
  Operation operation{};
  job->enc_keys = encrypt.data();
  job->dec_keys = decrypt.data();
  job->key_len_in_bytes = IMB_KEY_256_BYTES;
  job->src = out.data();
  job->dst = out.data();
  job->iv = counter.data();
  job->iv_len_in_bytes = counter.size();
  job->cipher_start_src_offset_in_bytes = 0;
  job->msg_len_to_cipher_in_bytes = out.size();
  job->cipher_mode = IMB_CIPHER_CNTR;
  job->cipher_direction = IMB_DIR_ENCRYPT;
  job->chain_order = IMB_ORDER_CIPHER_HASH;
  job->hash_alg = IMB_AUTH_NULL;
  job->user_data = &operation;
  for (job = IMB_SUBMIT_JOB(manager_.get()); job != nullptr; job = IMB_GET_COMPLETED_JOB(manager_.get())) settle(job);
  flush();
  explicit_bzero(encrypt.data(), encrypt.size());
  explicit_bzero(decrypt.data(), decrypt.size());
  return operation.is_done;
}

std::array<std::uint8_t, 32> Crypto::sha256(std::span<const std::uint8_t> octets) noexcept {
  std::array<std::uint8_t, 32> digest;
  IMB_SHA256(manager_.get(), octets.data(), octets.size(), digest.data());
  return digest;
}

}  // namespace groupvpn
