// The options of an IPv4 header, one after the other (RFC 791 3.1).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

namespace groupvpn {

// Whatever their length octets say, no option reaches beyond `octets`: one that does, or has not even room for its own length, is the end.
class Ipv4Options {
 public:
  static constexpr std::uint8_t end_of_list = 0, no_operation = 1;  // the two without a length octet
  static constexpr std::uint8_t loose_route = 0x83, strict_route = 0x89;
  static constexpr std::uint8_t copied = 0x80;  // of the first octet: each fragment repeats the option

  explicit Ipv4Options(std::span<std::uint8_t> octets) noexcept : octets_(octets) {}

  // The next option that has a length, from its first octet to its last one. It may be overwritten.
  std::optional<std::span<std::uint8_t>> next() noexcept {
    while (at_ < octets_.size() && octets_[at_] != end_of_list) {
      if (octets_[at_] == no_operation) {
        ++at_;
        continue;
      }
      const std::size_t size = at_ + 1 < octets_.size() ? octets_[at_ + 1] : 0;
      if (size < 2 || at_ + size > octets_.size()) {
        is_whole_ = false;
        break;
      }
      return octets_.subspan(std::exchange(at_, at_ + size), size);
    }
    return std::nullopt;
  }

  // To be asked when there is no next one: whether all of them held together.
  [[nodiscard]] bool is_whole() const noexcept { return is_whole_; }

 private:
  std::span<std::uint8_t> octets_;
  std::size_t at_ = 0;
  bool is_whole_ = true;
};

}  // namespace groupvpn
