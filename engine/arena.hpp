// Room for frames of which most are much shorter than the longest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace groupvpn {

// Frames lie one behind the other; there is room for the next one as long as the longest would fit. What was kept stays where it is until
// `clear`.
class Arena {
 public:
  // `longest` and `size` in octets; `size` is at least `longest`.
  Arena(std::size_t longest, std::size_t size) : longest_(longest), octets_(size) {}

  [[nodiscard]] bool has_room() const noexcept { return octets_.size() - used_ >= longest_; }

  // Where the next frame is to be written, `longest` octets. Only if there is room.
  [[nodiscard]] std::span<std::uint8_t> room() noexcept { return std::span(octets_).subspan(used_, longest_); }

  // The room's first `length` octets are in use now. The distance of two frames of one size is an odd number of cache lines, so that their
  // headers do not compete for the same sets.
  void keep(std::size_t length) noexcept {
    const std::size_t taken = ((length + 63) / 64 | 1) * 64;
    used_ = taken < octets_.size() - used_ ? used_ + taken : octets_.size();
  }

  void clear() noexcept { used_ = 0; }

 private:
  std::size_t longest_;
  std::size_t used_ = 0;
  std::vector<std::uint8_t> octets_;
};

}  // namespace groupvpn
