// Unpredictable octets for the IVs of CBC (RFC 3602 3), cheap enough for every packet.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "crypto.hpp"

namespace groupvpn {

// From the kernel (getrandom(2)). A kernel without entropy leaves no safe way to go on: ends the process.
void fill_at_random(std::span<std::uint8_t> octets) noexcept;

// A generator with fast key erasure: a block of AES-256-CTR keystream gives the next key and then the octets to hand out, each erased as
// it leaves. Seeded from getrandom(), and again every `reseed_interval` blocks. One per thread.
class RandomOctets {
 public:
  explicit RandomOctets(Crypto& crypto);
  ~RandomOctets();
  RandomOctets(const RandomOctets&) = delete;
  RandomOctets& operator=(const RandomOctets&) = delete;

  // `length` is at most 256.
  void take(std::uint8_t* out, std::size_t length) noexcept;

 private:
  static constexpr std::uint32_t reseed_interval = 1024;
  static constexpr std::size_t block_size = 4096;
  void refill() noexcept;
  void mix_in_seed() noexcept;

  Crypto& crypto_;
  std::size_t used_ = block_size;  // nothing there yet
  std::uint32_t blocks_until_seed_ = 0;
  std::array<std::uint8_t, 32> key_{};
  alignas(64) std::array<std::uint8_t, block_size> block_{};
};

}  // namespace groupvpn
