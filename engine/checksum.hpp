// The Internet checksum (RFC 1071) and its incremental form (RFC 1624).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "packet.hpp"

namespace groupvpn {

// Adds octets to a one's complement sum that is not yet folded: see `add_sum`. The second also copies them; the two places do not overlap.
using Sum = std::uint64_t(const std::uint8_t* octets, std::size_t length, std::uint64_t sum) noexcept;
using CopyAndSum = std::uint64_t(std::uint8_t* to, const std::uint8_t* from, std::size_t length, std::uint64_t sum) noexcept;

struct SumCode {
  const char* name;
  Sum* sum;
  CopyAndSum* copy;
};

// What this processor can run, the fastest last; all give sums that fold to the same checksum.
std::span<const SumCode> sum_codes() noexcept;
extern const SumCode best_sum_code;  // chosen when the program starts

// For headers and what is left of longer runs: at most some dozens of octets.
inline std::uint64_t add_short_sum(const std::uint8_t* octets, std::size_t length, std::uint64_t sum) noexcept {
  for (; length >= 4; octets += 4, length -= 4) {
    std::uint32_t word;
    std::memcpy(&word, octets, sizeof word);
    sum += word;
  }
  if (length >= 2) {
    std::uint16_t word;
    std::memcpy(&word, octets, sizeof word);
    sum += word;
    octets += 2;
    length -= 2;
  }
  return length != 0 ? sum + *octets : sum;
}

// One's complement sum of `length` octets added to `sum`, not yet folded. Words are summed in host order, which one's complement
// arithmetic allows (RFC 1071 2 (B)); `finish_sum` puts the result into network order. Only the last run of octets may be odd.
inline std::uint64_t add_sum(const std::uint8_t* octets, std::size_t length, std::uint64_t sum = 0) noexcept {
  constexpr std::size_t worth_a_call = 64;
  return length < worth_a_call ? add_short_sum(octets, length, sum) : best_sum_code.sum(octets, length, sum);
}

// The same, of octets that are copied on the way: they are read once.
inline std::uint64_t copy_and_sum(std::uint8_t* to, const std::uint8_t* from, std::size_t length, std::uint64_t sum = 0) noexcept {
  return best_sum_code.copy(to, from, length, sum);
}

// Sum of the pseudo header of a packet's TCP or UDP (RFC 793 3.1, RFC 8200 8.1), `length` being that of the transport segment. `ip` is a
// header of either family.
inline std::uint64_t pseudo_header_sum(const std::uint8_t* ip, std::uint8_t protocol, std::uint32_t length) noexcept {
  const std::uint64_t addresses =
      family_of(*ip) == Family::ipv6 ? add_short_sum(ip + ipv6_at::source, 32, 0) : add_short_sum(ip + ipv4_at::source, 8, 0);
  return addresses + __builtin_bswap16(protocol) + __builtin_bswap16(static_cast<std::uint16_t>(length));
}

// The checksum of a finished sum, ready for store16.
inline std::uint16_t finish_sum(std::uint64_t sum) noexcept {
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return __builtin_bswap16(static_cast<std::uint16_t>(~sum));
}

// The same for UDP, where 0 would say "no checksum" (RFC 768). 0 and 0xffff are one number in ones' complement.
inline std::uint16_t udp_checksum_of(std::uint64_t sum) noexcept {
  const std::uint16_t checksum = finish_sum(sum);
  return checksum == 0 ? std::uint16_t{0xffff} : checksum;
}

inline std::uint16_t checksum(const std::uint8_t* octets, std::size_t length) noexcept { return finish_sum(add_sum(octets, length)); }

// Whether octets that contain their own checksum add up.
inline bool is_checksum_right(const std::uint8_t* octets, std::size_t length) noexcept { return checksum(octets, length) == 0; }

inline void write_header_checksum(std::uint8_t* ip) noexcept {
  store16(ip + ipv4_at::checksum, 0);
  store16(ip + ipv4_at::checksum, checksum(ip, (ip[0] & 0x0fU) * 4U));
}

// Makes the header at `ip`, of either family, that of a packet of `length` octets in all, and its checksum right.
inline void set_total_length(std::uint8_t* ip, std::size_t length) noexcept {
  if (family_of(*ip) == Family::ipv6) {
    store16(ip + ipv6_at::payload_length, static_cast<std::uint16_t>(length - ipv6_header_size));
  } else {
    store16(ip + ipv4_at::total_length, static_cast<std::uint16_t>(length));
    write_header_checksum(ip);
  }
}

// Adjusts the header checksum at `ip` to a 16-bit word that changed from `before` to `after` (RFC 1624 3, equation 3).
inline void update_header_checksum(std::uint8_t* ip, std::uint16_t before, std::uint16_t after) noexcept {
  const auto complement = static_cast<std::uint16_t>(~load16(ip + ipv4_at::checksum));
  std::uint32_t sum = complement + static_cast<std::uint32_t>(static_cast<std::uint16_t>(~before)) + after;
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  store16(ip + ipv4_at::checksum, static_cast<std::uint16_t>(~sum));
}

}  // namespace groupvpn
