// DES and 3DES in CBC mode by OpenSSL, for processors on which intel-ipsec-mb's are too slow to use.
//
// Without AVX512 that library scans its tables in constant time: under 500 packets a second. OpenSSL's does some 20,000.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

struct evp_cipher_ctx_st;

namespace groupvpn {

class DesCbc {
 public:
  DesCbc();
  ~DesCbc();
  DesCbc(const DesCbc&) = delete;
  DesCbc& operator=(const DesCbc&) = delete;

  // In place, whole blocks, no padding; `key` are 24 octets (single DES: the same 8 octets three times, which is the same function).
  bool run(const std::uint8_t* key, const std::uint8_t* iv, std::uint8_t* data, std::size_t length, bool encrypt) noexcept;

 private:
  evp_cipher_ctx_st* context_;
};

}  // namespace groupvpn
