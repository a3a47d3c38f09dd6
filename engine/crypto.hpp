// The ciphers and MACs of ESP over intel-ipsec-mb: what each needs, prepared keys, and bursts that seal and open packets in place.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include <intel-ipsec-mb.h>

namespace groupvpn {

class DesCbc;

enum class Cipher : std::uint8_t {
  null,
  des_cbc,
  triple_des_cbc,
  aes_128_cbc,
  aes_192_cbc,
  aes_256_cbc,
  aes_128_gcm,
  aes_192_gcm,
  aes_256_gcm,
  aes_128_gcm_8,
  aes_192_gcm_8,
  aes_256_gcm_8,
  aes_128_gcm_12,
  aes_192_gcm_12,
  aes_256_gcm_12,
  aes_128_gmac,
  aes_192_gmac,
  aes_256_gmac,
  aes_128_ctr,
  aes_192_ctr,
  aes_256_ctr,
};

enum class Integrity : std::uint8_t { none, hmac_md5_96, hmac_sha1_96, hmac_sha2_256_128, hmac_sha2_384_192, hmac_sha2_512_256 };

enum class CipherKind : std::uint8_t { null, des_cbc, triple_des_cbc, aes_cbc, aes_gcm, aes_gmac, aes_ctr };

// Sizes in octets. `alignment` is what the plaintext is padded to: the block, or 4 (RFC 4303 2.4).
struct CipherTraits {
  Cipher cipher;
  CipherKind kind;
  std::string_view name;
  std::uint8_t key, iv, alignment, salt, icv;
  // The IV is a counter that must not repeat, beside a salt that is part of the key.
  [[nodiscard]] bool is_counter_mode() const noexcept { return salt != 0; }
  // It authenticates by itself: GCM and GMAC.
  [[nodiscard]] bool is_combined() const noexcept { return kind == CipherKind::aes_gcm || kind == CipherKind::aes_gmac; }
};

struct IntegrityTraits {
  std::string_view name;
  std::uint8_t key, icv;
};

const CipherTraits& traits(Cipher cipher) noexcept;
const IntegrityTraits& traits(Integrity integrity) noexcept;

// By the names that groupvpn.crypto.registry gives them; EngineError for others.
Cipher cipher_named(std::string_view name);
Integrity integrity_named(std::string_view name);

// Everything that is computed from the keys of one SA once, ready for every packet. Wiped on destruction.
struct alignas(64) Schedule {
  Schedule() noexcept = default;
  Schedule(const Schedule&) = delete;
  Schedule& operator=(const Schedule&) = delete;
  ~Schedule();

  gcm_key_data gcm;
  alignas(16) std::array<std::uint8_t, 16 * 15> aes_encrypt;
  alignas(16) std::array<std::uint8_t, 16 * 15> aes_decrypt;
  alignas(16) std::array<std::array<std::uint64_t, IMB_DES_KEY_SCHED_SIZE / 8>, 3> des;
  std::array<const void*, 3> des_rounds;
  std::array<std::uint8_t, 24> des_key;
  alignas(16) std::array<std::uint8_t, 64> hmac_inner;  // hash state after the block key ^ ipad (RFC 2104)
  alignas(16) std::array<std::uint8_t, 64> hmac_outer;
  std::array<std::uint8_t, 4> salt;
};

// Octets that ipsec-mb takes for an HMAC at most; it refuses a job of 65535.
inline constexpr std::uint32_t maximum_covered = 65534;

// One packet for the cipher, in place. Of ESP `begin` points at the SPI; `payload_offset` octets later (after the IV) come `payload_length` octets
// to encrypt or decrypt. `iv` holds salt and explicit IV for counter modes (RFC 4106 4, RFC 3686 4), the IV itself for CBC. `tag` is where
// the ICV goes, or where the one to compare with is.
//
// GCM and GMAC know by themselves what the ICV covers; `extended` tells them the upper half of the sequence number, which is not in the
// packet, and needs four octets before `begin`. The other algorithms cover `covered` octets from `begin` on. AH is such an operation with the
// cipher null and without a payload, which begins at the outer header.
struct Operation {
  const Schedule* schedule;
  Cipher cipher;
  Integrity integrity;
  std::uint8_t* begin;
  std::uint32_t payload_offset;
  std::uint32_t payload_length;
  std::uint32_t covered;
  std::uint8_t* tag;
  std::optional<std::uint32_t> extended;
  bool is_done;       // the library did the job
  bool is_authentic;  // open only: the ICV verified
  alignas(16) std::array<std::uint8_t, 16> iv;
  alignas(16) std::array<std::uint8_t, 64> icv;  // open only: the computed ICV
  std::array<std::uint8_t, 32> received;         // open only: the ICV of the packet, where its place is wanted for something else
  bool is_received_kept;

  [[nodiscard]] std::uint8_t* payload() const noexcept { return begin + payload_offset; }
  // What counts for the life of an SA: the octets that its algorithm is applied to (RFC 4301 4.4.2.1).
  [[nodiscard]] std::uint32_t charged() const noexcept { return payload_length != 0 ? payload_length : covered; }
  // Makes it one with these keys and algorithms, of which nothing is known yet.
  void use(const Schedule& keys, Cipher its_cipher, Integrity its_integrity) noexcept {
    schedule = &keys;
    cipher = its_cipher;
    integrity = its_integrity;
    extended.reset();
    is_done = is_authentic = is_received_kept = false;
  }
  // Header, IV, payload and ICV of ESP one behind the other, all covered but the ICV.
  void place(std::uint8_t* at, std::uint32_t offset, std::uint32_t length) noexcept {
    begin = at;
    payload_offset = offset;
    payload_length = length;
    covered = offset + length;
    tag = at + covered;
  }
  // The upper half of an extended sequence number is covered by the ICV and not sent: in the authenticated header of GCM, else behind what is
  // covered, where ESP has its ICV (RFC 4303 2.2.1, RFC 4302 2.5.1).
  void cover_upper_half(std::uint64_t sequence) noexcept;
  // Before the place of a received ICV is written to.
  void keep_received(std::size_t length) noexcept {
    std::memcpy(received.data(), tag, length);
    is_received_kept = true;
  }
  [[nodiscard]] const std::uint8_t* expected_tag() const noexcept { return is_received_kept ? received.data() : tag; }
};

// Compares without a branch on the content.
bool is_equal_constant_time(const std::uint8_t* left, const std::uint8_t* right, std::size_t length) noexcept;

enum class DesEngine : std::uint8_t { automatic, ipsec_mb, openssl };

// A multi-buffer manager: one per thread, it is not shared.
class Crypto {
 public:
  static constexpr std::size_t maximum_burst = IMB_MAX_BURST_SIZE;

  explicit Crypto(DesEngine des_engine = DesEngine::automatic);
  ~Crypto();
  Crypto(const Crypto&) = delete;
  Crypto& operator=(const Crypto&) = delete;

  // Fills `schedule`; EngineError if a key, or the salt, has another size than the algorithm's.
  void prepare(Schedule& schedule, Cipher cipher, std::span<const std::uint8_t> encryption_key, Integrity integrity,
               std::span<const std::uint8_t> integrity_key, std::span<const std::uint8_t> salt);

  // For a cipher without integrity, which nothing but single blocks may be given to; the key has the cipher's length.
  void prepare_blocks(Schedule& schedule, Cipher cipher, const std::uint8_t* key) noexcept;

  // Encrypts at most `maximum_burst` packets and writes their ICVs.
  void seal(std::span<Operation> burst) noexcept;
  // Verifies and decrypts; where `is_authentic` comes out false the payload is worthless.
  void open(std::span<Operation> burst) noexcept;

  // AES-256-CTR keystream from counter block 0, for the generator of IVs; false, and no keystream, if the library refuses the job.
  [[nodiscard]] bool keystream(std::span<const std::uint8_t, 32> key, std::span<std::uint8_t> out) noexcept;
  std::array<std::uint8_t, 32> sha256(std::span<const std::uint8_t> octets) noexcept;

  [[nodiscard]] std::string_view architecture() const noexcept;
  [[nodiscard]] bool clears_its_memory() const noexcept { return (manager_->features & IMB_FEATURE_SAFE_DATA) != 0; }
  [[nodiscard]] bool uses_openssl_for_des() const noexcept { return des_ != nullptr; }

 private:
  void prepare_cipher(Schedule& schedule, Cipher cipher, const std::uint8_t* key) noexcept;
  void expand_aes(Schedule& schedule, const std::uint8_t* key, std::size_t length) noexcept;
  void expand_gcm(Schedule& schedule, const std::uint8_t* key, std::size_t length) noexcept;
  void prepare_hmac(Schedule& schedule, Integrity integrity, std::span<const std::uint8_t> key);
  void run_gcm(Operation& operation, bool encrypt) noexcept;
  void run_extended_gcm(Operation& operation, bool encrypt) noexcept;
  void run_gcm(Operation& operation, bool encrypt, const std::uint8_t* aad, std::uint64_t header_length) noexcept;
  void submit(Operation& operation, bool encrypt) noexcept;
  void set_cipher(IMB_JOB& job, const Operation& operation, bool encrypt) const noexcept;
  void flush() noexcept;
  [[nodiscard]] bool goes_to_openssl(CipherKind kind) const noexcept;

  struct Free {
    void operator()(IMB_MGR* manager) const noexcept { free_mb_mgr(manager); }
  };
  std::unique_ptr<IMB_MGR, Free> manager_;
  std::unique_ptr<DesCbc> des_;
};

}  // namespace groupvpn
