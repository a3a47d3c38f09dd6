// What must hold of a packet that decapsulation lets through.
#pragma once

#include "../tests/build.hpp"

namespace groupvpn::test {

// Whether it is an IP packet of the length that it says, and lies inside `octets`.
inline bool is_whole(const Packet& packet, std::span<std::uint8_t> octets) {
  if (packet.data < octets.data() || packet.data + packet.length > octets.data() + octets.size() || packet.length == 0) return false;
  if (family_of(*packet.data) == Family::ipv6) {
    const auto ip = Ipv6::parse(packet.data, packet.length);
    return ip && ip->total_length() == packet.length;
  }
  const auto ip = Ipv4::parse(packet.data, packet.length);
  return ip && ip->total_length() == packet.length;
}

inline Octets ipv6(const Octets& payload, std::uint8_t protocol) {
  Octets packet(ipv6_header_size + payload.size());
  store32(&packet[0], 0x60000000);
  store16(&packet[4], static_cast<std::uint16_t>(payload.size()));
  packet[6] = protocol;
  packet[7] = 64;
  packet[8] = packet[24] = 0x20;
  packet[23] = 1;
  packet[39] = 2;
  std::copy(payload.begin(), payload.end(), packet.begin() + ipv6_header_size);
  return packet;
}

}  // namespace groupvpn::test
