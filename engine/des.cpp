#include "des.hpp"

#include <openssl/evp.h>

#include "error.hpp"

namespace groupvpn {

DesCbc::DesCbc() : context_(EVP_CIPHER_CTX_new()) {
  if (context_ == nullptr) throw EngineError("OpenSSL has no memory for a cipher context");
}

DesCbc::~DesCbc() { EVP_CIPHER_CTX_free(context_); }

bool DesCbc::run(const std::uint8_t* key, const std::uint8_t* iv, std::uint8_t* data, std::size_t length, bool encrypt) noexcept {
  int written = 0;
  const bool is_right = EVP_CipherInit_ex(context_, EVP_des_ede3_cbc(), nullptr, key, iv, encrypt ? 1 : 0) == 1 &&
                        EVP_CIPHER_CTX_set_padding(context_, 0) == 1 &&
                        EVP_CipherUpdate(context_, data, &written, data, static_cast<int>(length)) == 1 &&
                        static_cast<std::size_t>(written) == length;
  EVP_CIPHER_CTX_reset(context_);  // wipes the key schedule
  return is_right;
}

}  // namespace groupvpn
