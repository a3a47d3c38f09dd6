// AH (RFC 4302): its own header, and the ICV over a packet whose header changes on the way.
#pragma once

#include <array>
#include <cstdint>

#include "crypto.hpp"
#include "outer.hpp"
#include "packet.hpp"
#include "sa.hpp"

namespace groupvpn {

// The IP header before AH as it is, while the packet holds it as the ICV wants it.
struct SavedHeader {
  static constexpr std::uint32_t maximum_size = 256;
  std::uint32_t length;
  std::array<std::uint8_t, maximum_size> octets;
};

// Writes AH and the outer header, and the operation that computes the ICV. `restore_header` puts the header back when that is done.
Reason build_ah(Packet& packet, const Plan& plan, std::int64_t now, Identifications& identifications, Operation& operation,
                SavedHeader& saved) noexcept;

// Checks what can be checked before cryptography; `packet` begins at AH, and `operation` verifies its ICV.
Reason parse_ah(Packet& packet, std::int64_t now, Origin& origin, Operation& operation, SavedHeader& saved) noexcept;

// Puts the header back, `ip` being its first octet.
void restore_header(std::uint8_t* ip, const SavedHeader& saved) noexcept;

// From a verified packet to what was protected; the header before it is as it was again.
Reason strip_ah(const Packet& packet, const Operation& operation, const SavedHeader& saved, Verified& verified) noexcept;

// Zeroes what routers change in the `length` octets of an IP header with its options or extension headers, and writes what the receiver will
// find instead where that is known (RFC 4302 3.3.3.1, appendix A). False for a header that does not hold together, or that has a routing header
// which is not used up: type 0 is deprecated (RFC 5095), and others are not defined for AH.
bool mask_mutable_fields(std::uint8_t* ip, std::uint32_t length) noexcept;

}  // namespace groupvpn
