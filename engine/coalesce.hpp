// The reverse of cut: decrypted packets of one flow that follow each other become a super-packet, which costs the kernel as much as one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "offload.hpp"
#include "packet.hpp"

namespace groupvpn {

// Packets of a burst that go to the kernel in one frame, in this order: `first`, then by Coalescer::next. The frame is the first packet,
// whose headers now speak for all, and the payloads of the others (their octets behind `headers`).
struct SuperPacket {
  std::uint16_t first;
  std::uint16_t last;
  std::uint16_t count;
  std::uint16_t segment_size;   // payload octets of each but the last, which may have fewer
  std::uint32_t headers;        // octets of IP and transport header; 0 if nothing can join the packet
  std::uint32_t length;         // octets of all as one IP packet
  bool is_open;                 // another packet may join
  bool is_verified;             // the checksums of the first one were seen to be right
};

// Sorts bursts. What is cut again at `segment_size` gives the same packets, octet for octet, but for the identification of packets with DF,
// which means nothing (RFC 6864 4.1). So only these are coupled:
//
// - TCP segments with data, and UDP datagrams with a checksum; to one unicast destination; no fragments, no IPv4 options, no IPv6 extension
//   headers
// - of one SA, for its selectors judge them
// - of one flow, with the same TOS, TTL and DF, or traffic class, flow label and hop limit; identifications that count up where DF is not set
// - TCP: the next sequence number, the same acknowledgement, window and options; no flag but ACK, and PSH, which ends a super-packet
// - of the same size, but the last may be shorter
// - whose header and transport checksums are right
//
// Packets of one flow never change places.
class Coalescer {
 public:
  static constexpr std::size_t maximum_burst = 256;
  static constexpr std::size_t most_open = 32;  // super-packets that a packet may join, the newest ones: of many flows at once few have more than one packet
  static constexpr std::uint16_t maximum_segments = 64;  // what kernels take of UDP

  // `with_udp`: whether the kernel knows UDP super-packets (Linux 6.2).
  explicit Coalescer(bool with_udp) noexcept : with_udp_(with_udp) {}

  // The super-packets of the burst, most of them of one packet, in the order in which they go to the kernel. Packets with a reason are left
  // out. The first packet of each that has more than one has new lengths and checksums; with `offload_of` it is ready to be written.
  std::span<const SuperPacket> couple(std::span<Packet> burst) noexcept;

  // The packet behind packet `index` in its super-packet.
  [[nodiscard]] std::uint16_t next(std::uint16_t index) const noexcept { return next_[index]; }

 private:
  void add(std::span<Packet> burst, std::uint16_t index) noexcept;
  void join(SuperPacket& super, Packet& first, std::uint16_t index, std::uint32_t payload_length) noexcept;

  bool with_udp_;
  std::size_t count_ = 0;
  std::array<SuperPacket, maximum_burst> supers_;
  std::array<std::uint16_t, maximum_burst> next_;
};

// What the kernel must be asked for a super-packet of `link_size` octets of link header and `first`.
Offload offload_of(const SuperPacket& super, const Packet& first, std::uint32_t link_size) noexcept;

}  // namespace groupvpn
