// The request that stands before each frame of a TAP with IFF_VNET_HDR: a checksum to complete, a super-packet to cut.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "packet.hpp"

namespace groupvpn {

// The fields of struct virtio_net_hdr (linux/virtio_net.h, which no C++ compiler reads), little-endian on the way.
struct Offload {
  static constexpr std::uint8_t needs_checksum = 1;
  static constexpr std::uint8_t gso_none = 0, gso_tcp4 = 1, gso_tcp6 = 4, gso_udp_segmentation = 5;

  std::uint8_t flags = 0;
  std::uint8_t gso_type = gso_none;
  std::uint16_t segment_size = 0;     // payload octets of a segment
  std::uint16_t checksum_start = 0;   // octets from the start of the frame
  std::uint16_t checksum_offset = 0;  // octets from there
  std::uint16_t header_length = 0;    // of all headers, a hint: written, never trusted

  // The checksum of TCP or UDP, whose header begins `start` octets from the start of the frame, is that of the pseudo header alone.
  static Offload of_checksum(std::size_t start, std::uint8_t protocol) noexcept {
    Offload offload;
    offload.flags = needs_checksum;
    offload.checksum_start = static_cast<std::uint16_t>(start);
    offload.checksum_offset = protocol == protocol_tcp ? tcp_at::checksum : udp_at::checksum;
    return offload;
  }

  // `header` has at least 10 octets.
  static Offload read(const std::uint8_t* header) noexcept {
    constexpr std::uint8_t gso_ecn = 0x80;
    Offload offload;
    offload.flags = header[0];
    offload.gso_type = header[1] & static_cast<std::uint8_t>(~gso_ecn);
    std::memcpy(&offload.segment_size, header + 4, 2);
    std::memcpy(&offload.checksum_start, header + 6, 2);
    std::memcpy(&offload.checksum_offset, header + 8, 2);
    return offload;
  }

  void write(std::uint8_t* header) const noexcept {
    header[0] = flags;
    header[1] = gso_type;
    std::memcpy(header + 2, &header_length, 2);
    std::memcpy(header + 4, &segment_size, 2);
    std::memcpy(header + 6, &checksum_start, 2);
    std::memcpy(header + 8, &checksum_offset, 2);
  }
};

}  // namespace groupvpn
