// ESP in UDP on its way out: finished packets that follow each other become super-frames (docs/protocol/esp-in-udp.md).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "offload.hpp"
#include "packet.hpp"

namespace groupvpn {

// Packets of a burst that leave in one frame: `count` from `first` on. The frame is the first packet, whose headers now speak for all, and what
// the others have behind theirs.
struct Gathered {
  std::uint16_t first, count;
  std::uint16_t segment_size;  // octets behind the UDP header of each packet but the last, which may have fewer
  std::uint16_t headers;       // octets of IP and UDP header
  std::uint32_t length;        // octets of all as one IP packet
};

// A finished packet, with its link header written right before it.
struct Outgoing {
  Packet* packet;
  std::uint32_t link_size;
};

// Gathers unicast, and only neighbours: a packet that overtook others could fall out of a receiver's replay window (RFC 4303 3.4.3). They have one SA, one
// link header, and outer headers that differ in length and identification only, which counts up where DF is not set; their size is the same,
// but the last may be shorter. The kernel cuts a super-frame into exactly the packets that it was made of, but for the identification of
// packets with DF (RFC 6864 4.1) and the UDP checksum, which may be 0 before and is right behind.
class Gatherer {
 public:
  static constexpr std::size_t maximum_burst = 128;
  static constexpr std::uint16_t maximum_segments = 64;  // what every kernel takes (UDP_MAX_SEGMENTS)

  // All packets of `burst` in frames, in their order. The first packet of each that has more than one gets new lengths and checksums.
  std::span<const Gathered> gather(std::span<const Outgoing> burst) noexcept;

  // Each packet in a frame of its own, as it is.
  std::span<const Gathered> leave(std::span<const Outgoing> burst) noexcept;

 private:
  std::array<Gathered, maximum_burst> frames_;
};

// What the kernel must be asked for a frame with a link header of `link_size` octets.
Offload offload_of(const Gathered& gathered, std::uint32_t link_size) noexcept;

}  // namespace groupvpn
