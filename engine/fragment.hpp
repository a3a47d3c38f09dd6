// Fragmentation after encryption: an ESP packet that is larger than the wire takes leaves in parts, which the far gateway puts together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "packet.hpp"

namespace groupvpn {

// Makes padding of the options of IPv4 that a fragment other than the first does not repeat (RFC 791 3.1, the copied flag).
void blank_uncopied_options(std::uint8_t* options, std::size_t length) noexcept;

// Gives the fragments of one packet, one that is no fragment itself, one after the other: IPv4, whose options are repeated (RFC 791 3.2), or IPv6, which gets a fragment
// header behind what each router on the way has to read (RFC 8200 4.5). The packet stays as it is. In IPv4 its DF bit stays on each part: what the
// SA says of DF is for the routers on the way, not for us.
class Fragmenter {
 public:
  // `mtu` is at least 68. `identification` is for IPv6; IPv4 packets have one.
  Fragmenter(const Packet& packet, std::uint32_t mtu, std::uint32_t identification) noexcept;

  // Whether the packet is one that can be split; if not, there are no fragments.
  [[nodiscard]] bool is_possible() const noexcept { return header_ != 0; }

  // Writes the next fragment, of at most `mtu` octets, into `out`. Returns its length, 0 if there are no more.
  std::uint32_t next(std::span<std::uint8_t> out) noexcept;

 private:
  const std::uint8_t* data_;
  std::uint32_t header_ = 0;    // octets of the header that all fragments repeat
  std::uint32_t inserted_ = 0;  // octets of the fragment header behind it
  std::uint32_t named_at_ = 0;  // IPv6: the octet of the header that names what follows it
  std::uint32_t part_ = 0;      // octets of payload in each fragment but the last
  std::uint32_t payload_ = 0;   // octets of payload in all
  std::uint32_t at_ = 0;
  std::uint32_t identification_;
};

}  // namespace groupvpn
