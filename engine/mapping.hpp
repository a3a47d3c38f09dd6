// Memory that is mapped as long as its owner lives.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <utility>

namespace groupvpn {

class Mapping {
 public:
  enum class Access : int { read = PROT_READ, write = PROT_READ | PROT_WRITE };

  Mapping() noexcept = default;
  // Of a descriptor, or anonymous memory (-1). `octets()` is null if the kernel did not want to.
  Mapping(std::size_t size, int descriptor, std::uint64_t offset, Access access = Access::write) noexcept : size_(size) {
    const int kind = descriptor < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    void* at = mmap(nullptr, size, static_cast<int>(access), kind | MAP_POPULATE, descriptor, static_cast<off_t>(offset));
    if (at != MAP_FAILED) octets_ = static_cast<std::uint8_t*>(at);
  }
  ~Mapping() {
    if (octets_ != nullptr) munmap(octets_, size_);
  }
  Mapping(Mapping&& other) noexcept : octets_(std::exchange(other.octets_, nullptr)), size_(other.size_) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(octets_, other.octets_);
    std::swap(size_, other.size_);
    return *this;
  }

  [[nodiscard]] std::uint8_t* octets() const noexcept { return octets_; }

 private:
  std::uint8_t* octets_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace groupvpn
