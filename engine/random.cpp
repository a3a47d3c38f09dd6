#include "random.hpp"

#include <sys/random.h>

#include <cerrno>
#include <cstring>
#include <exception>

namespace groupvpn {

void fill_at_random(std::span<std::uint8_t> octets) noexcept {
  while (!octets.empty()) {
    const ssize_t count = getrandom(octets.data(), octets.size(), 0);
    if (count > 0) octets = octets.subspan(static_cast<std::size_t>(count));
    if (count < 0 && errno != EINTR) std::terminate();
  }
}

RandomOctets::RandomOctets(Crypto& crypto) : crypto_(crypto) {}

RandomOctets::~RandomOctets() {
  explicit_bzero(key_.data(), key_.size());
  explicit_bzero(block_.data(), block_.size());
}

void RandomOctets::mix_in_seed() noexcept {
  std::array<std::uint8_t, 32> seed;
  fill_at_random(seed);
  for (std::size_t index = 0; index < seed.size(); ++index) key_[index] ^= seed[index];
  explicit_bzero(seed.data(), seed.size());
}

void RandomOctets::refill() noexcept {
  if (blocks_until_seed_ == 0) {
    mix_in_seed();
    blocks_until_seed_ = reseed_interval;
  }
  --blocks_until_seed_;
  if (!crypto_.keystream(key_, block_)) std::terminate();  // zeros would be IVs that anybody can predict
  std::memcpy(key_.data(), block_.data(), key_.size());
  explicit_bzero(block_.data(), key_.size());
  used_ = key_.size();
}

void RandomOctets::take(std::uint8_t* out, std::size_t length) noexcept {
  if (block_.size() - used_ < length) refill();
  std::memcpy(out, block_.data() + used_, length);
  std::memset(block_.data() + used_, 0, length);
  used_ += length;
}

}  // namespace groupvpn
