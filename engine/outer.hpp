// The header around ESP and AH: reading and writing it, and what passes between it and the packet inside (docs/decisions/outer-header.md).
#pragma once

#include <cstdint>

#include "packet.hpp"
#include "sa.hpp"

namespace groupvpn {

inline constexpr std::uint8_t tunnel_hop_limit = 64;  // of outer headers whose addresses are not those inside

// How a packet goes into ESP or AH, found out before anything is written: what comes in front, and what is protected.
struct Plan {
  Family family;                // of the header in front
  std::uint8_t next_header;     // protocol of what is protected
  std::uint32_t named_at;       // transport mode: the octet of the header that names what follows it
  std::uint32_t header_length;  // of IP, with options and extension headers, and UDP
  std::uint32_t body_offset;    // what is protected, from the start of the packet; 0 in tunnel mode
  std::uint32_t body_length;
  std::uint32_t total_length;   // of the packet as it was, without what the link layer padded

  // Whether there is room for `front` octets before what is protected and `back` octets from its start on.
  [[nodiscard]] bool has_room(const Packet& packet, std::uint32_t front, std::uint32_t back) const noexcept {
    return packet.headroom + body_offset >= front && packet.length + packet.tailroom - body_offset >= back;
  }
};

// The identifications of outer headers, one after the other. Never 0: there a raw socket would have the kernel choose (raw(7)), and the ICV of AH
// covers it.
class Identifications {
 public:
  explicit Identifications(std::uint16_t first) noexcept : next_(first) {}

  std::uint16_t next() noexcept {
    if (next_ == 0) ++next_;
    return next_++;
  }

 private:
  std::uint16_t next_;
};

// Reason::malformed for what is no whole IP packet; transport mode refuses fragments (RFC 4303 3.3.4), and takes a fragment header that says "whole"
// out of the packet.
Reason plan_outer(Packet& packet, const Sa& sa, Plan& plan) noexcept;

// Writes the header to `outer`, for a packet of `length` octets in all. In transport mode it is moved there from the packet, so this comes before
// ESP or AH is written.
void write_outer(const Packet& packet, const Sa& sa, const Plan& plan, std::uint8_t* outer, std::uint32_t length,
                 std::uint16_t identification) noexcept;

// Completes the UDP header of a finished packet where IPv6 wants a checksum (RFC 8200 8.1). In IPv4 it stays 0 (RFC 3948 2.1).
void finish_udp(const Packet& packet, const Plan& plan) noexcept;

// Reads the outer header of a packet as received into `packet.outer`, and moves the packet to what is behind it: the SPI of ESP, or AH. A UDP
// header before ESP is passed over; its checksum is not looked at (RFC 3948 2.1), the ICV says more. A fragment header that says "whole" is
// taken out. What has a route before it that is not used up is Reason::malformed: it is not where it goes yet (RFC 8200 4.4).
Reason parse_outer(Packet& packet) noexcept;

// What ESP or AH protected, after it was verified.
struct Verified {
  std::uint8_t* data;
  std::uint32_t length;
  std::uint8_t next_header;
};

// From what was protected to the packet that it makes: the one inside, with the congestion mark of the one outside; in transport mode the one
// outside, without what was put into it.
Reason unwrap(Packet& packet, const Verified& verified) noexcept;

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
