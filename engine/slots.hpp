// Buffers for the packets of a burst, one beside the other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace groupvpn {

// `count` buffers of `size` octets. The distance of two is an odd number of cache lines, so that headers do not compete for the same sets.
class Slots {
 public:
  Slots(std::size_t count, std::size_t size) : size_(size), stride_(((size + 63) / 64 | 1) * 64), octets_(count * stride_) {}

  [[nodiscard]] std::uint8_t* slot(std::size_t index) noexcept { return octets_.data() + index * stride_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  std::size_t size_;
  std::size_t stride_;
  std::vector<std::uint8_t> octets_;
};

}  // namespace groupvpn
