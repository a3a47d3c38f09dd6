// The Internet checksum (RFC 1071) and its incremental form (RFC 1624).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "packet.hpp"

namespace groupvpn {

// One's complement sum of `length` octets added to `sum`, not yet folded. Words are summed in host order, which one's complement
// arithmetic allows (RFC 1071 2 (B)); `finish_sum` puts the result into network order.
inline std::uint64_t add_sum(const std::uint8_t* octets, std::size_t length, std::uint64_t sum = 0) noexcept {
  std::uint64_t lanes[4] = {sum, 0, 0, 0};
  while (length >= 16) {
    std::uint32_t words[4];
    std::memcpy(words, octets, sizeof words);
    for (int lane = 0; lane < 4; ++lane) lanes[lane] += words[lane];
    octets += 16;
    length -= 16;
  }
  sum = lanes[0] + lanes[1] + lanes[2] + lanes[3];
  while (length >= 2) {
    std::uint16_t word;
    std::memcpy(&word, octets, sizeof word);
    sum += word;
    octets += 2;
    length -= 2;
  }
  return length != 0 ? sum + *octets : sum;
}

// Sum of the pseudo header of TCP and UDP (RFC 793 3.1), `length` being that of the transport segment.
inline std::uint64_t pseudo_header_sum(const std::uint8_t* ip, std::uint8_t protocol, std::uint32_t length) noexcept {
  return add_sum(ip + 12, 8) + __builtin_bswap16(protocol) + __builtin_bswap16(static_cast<std::uint16_t>(length));
}

// The checksum of a finished sum, ready for store16.
inline std::uint16_t finish_sum(std::uint64_t sum) noexcept {
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return __builtin_bswap16(static_cast<std::uint16_t>(~sum));
}

inline std::uint16_t checksum(const std::uint8_t* octets, std::size_t length) noexcept { return finish_sum(add_sum(octets, length)); }

// Whether octets that contain their own checksum add up.
inline bool is_checksum_right(const std::uint8_t* octets, std::size_t length) noexcept { return checksum(octets, length) == 0; }

inline void write_header_checksum(std::uint8_t* ip) noexcept {
  store16(ip + 10, 0);
  store16(ip + 10, checksum(ip, (ip[0] & 0x0fU) * 4U));
}

// Adjusts the header checksum at `ip` to a 16-bit word that changed from `before` to `after` (RFC 1624 3, equation 3).
inline void update_header_checksum(std::uint8_t* ip, std::uint16_t before, std::uint16_t after) noexcept {
  std::uint32_t sum = static_cast<std::uint16_t>(~load16(ip + 10)) + static_cast<std::uint32_t>(static_cast<std::uint16_t>(~before)) + after;
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  store16(ip + 10, static_cast<std::uint16_t>(~sum));
}

}  // namespace groupvpn
