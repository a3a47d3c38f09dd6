// The header around ESP and AH: reading it, and what passes between it and the packet inside.
#pragma once

#include <cstdint>

#include "packet.hpp"

namespace groupvpn {

// Reads the outer header of a packet as received into `packet.outer`, and moves the packet to what is behind it: the SPI of ESP, or AH. A UDP
// header before ESP (RFC 3948 2.1) is passed over; its checksum is not looked at (RFC 3948 2.1), the ICV says more.
Reason parse_outer(Packet& packet) noexcept;

// RFC 6040 4.2, normal mode: the codepoint that leaves the tunnel, or that the packet must be dropped.
struct Ecn {
  static constexpr std::uint8_t mask = 3;
  bool is_dropped;
  std::uint8_t codepoint;
};

constexpr Ecn combine_ecn(std::uint8_t inner, std::uint8_t outer) noexcept {
  constexpr std::uint8_t ect_1 = 1, ect_0 = 2, congested = 3;
  if (outer == congested) return {inner == 0, congested};
  if (outer == ect_1 && inner == ect_0) return {false, ect_1};
  return {false, inner};
}

}  // namespace groupvpn
