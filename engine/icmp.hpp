// The ICMP message that tells a sender that its packet was too big (RFC 792, RFC 1191 4; RFC 4443 3.2).
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "packet.hpp"

namespace groupvpn {

inline constexpr std::uint32_t icmp_maximum_size = 576;     // RFC 1812 4.3.2.3
inline constexpr std::uint32_t icmpv6_maximum_size = 1280;  // RFC 4443 2.4 (c)

// Whether `original` may be answered with an ICMP error at all (RFC 1122 3.2.2: no answer to errors, multicast, later fragments).
bool may_answer_with_icmp(const Ipv4& original) noexcept;

// RFC 4443 2.4 (e). Nor is multicast answered, which a router may do, because its address cannot be the source of an answer.
bool may_answer_with_icmp(const Ipv6& original) noexcept;

// Writes "fragmentation needed and DF set" with the next-hop MTU, from the destination of `original` to its source, into `out`
// (at least `icmp_maximum_size` octets). Returns its length. The source is the far end and not ourselves, because the message enters
// the kernel by the WAN, where a packet from our own address would be a martian.
std::uint32_t write_fragmentation_needed(const Ipv4& original, std::uint32_t mtu, std::span<std::uint8_t, icmp_maximum_size> out) noexcept;

// The same for IPv6: "packet too big", from the destination of `original` to its source.
std::uint32_t write_packet_too_big(const Ipv6& original, std::uint32_t mtu, std::span<std::uint8_t, icmpv6_maximum_size> out) noexcept;

}  // namespace groupvpn
