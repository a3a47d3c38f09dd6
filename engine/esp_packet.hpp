// ESP (RFC 4303): what stands before and behind what it protects, beside AH (ah.hpp).
#pragma once

#include <cstdint>

#include "crypto.hpp"
#include "outer.hpp"
#include "packet.hpp"
#include "random.hpp"
#include "sa.hpp"

namespace groupvpn {

// Writes ESP and the outer header, all but the ciphertext and the ICV, and the operation that makes these.
Reason build_esp(Packet& packet, const Plan& plan, std::int64_t now, Identifications& identifications, Operation& operation,
                 RandomOctets& random) noexcept;

// Checks what can be checked before cryptography; `packet` begins at the SPI, and `operation` verifies its ICV and decrypts.
Reason parse_esp(Packet& packet, std::int64_t now, Origin& origin, Operation& operation) noexcept;

// From verified plaintext to what was protected.
Reason strip_esp(const Operation& operation, Verified& verified) noexcept;

}  // namespace groupvpn
