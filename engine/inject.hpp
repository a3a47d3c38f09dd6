// Gives an IP packet to the kernel as if it had come in by the WAN.
#pragma once

#include <cstring>

#include "device.hpp"
#include "packet.hpp"
#include "sa.hpp"
#include "tap.hpp"

namespace groupvpn {

inline constexpr std::uint32_t ethernet_header_size = 14;
inline constexpr std::uint32_t inject_headroom = ethernet_header_size + Tap::maximum_header_size;

// The source address of a frame with a packet that was decrypted under an SA.
inline MacAddress tagged(MacAddress token, const Tag& tag) noexcept {
  static_assert(token_prefix_size + std::tuple_size_v<Tag> == std::tuple_size_v<MacAddress>);
  std::memcpy(token.data() + token_prefix_size, tag.data(), tag.size());
  return token;
}

// Writes a link header of `ethernet_header_size` octets, with `token` as the source address of the frame, which is how steering knows it from
// a frame of the wire.
inline void write_link_header(std::uint8_t* frame, Family family, const MacAddress& destination, const MacAddress& token) noexcept {
  std::memcpy(frame, destination.data(), destination.size());
  std::memcpy(frame + 6, token.data(), token.size());
  store16(frame + 12, family == Family::ipv6 ? 0x86dd : 0x0800);
}

// Gives one packet to the kernel by the inbound TAP. `packet.headroom` is at least `inject_headroom`.
inline bool inject(const Tap& tap, const Packet& packet, const MacAddress& destination, const MacAddress& token) noexcept {
  std::uint8_t* frame = packet.data - ethernet_header_size;
  write_link_header(frame, family_of(*packet.data), destination, token);
  iovec part{frame, ethernet_header_size + packet.length};
  return tap.write({}, {&part, 1});
}

}  // namespace groupvpn
