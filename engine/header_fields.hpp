// Where the fields of headers stand, in octets from the beginning of each, and sizes and masks that belong to them.
#pragma once

#include <cstdint>

namespace groupvpn {

namespace ipv4_at {  // RFC 791 3.1
inline constexpr std::uint16_t tos = 1, total_length = 2, identification = 4, fragment = 6, ttl = 8, protocol = 9, checksum = 10;
inline constexpr std::uint16_t source = 12, destination = 16;
}  // namespace ipv4_at

namespace ipv6_at {  // RFC 8200 3
inline constexpr std::uint16_t payload_length = 4, next_header = 6, hop_limit = 7, source = 8, destination = 24;
}  // namespace ipv6_at

namespace fragment_at {  // RFC 8200 4.5
inline constexpr std::uint16_t next_header = 0, offset = 2, identification = 4;
}  // namespace fragment_at

namespace udp_at {  // RFC 768
inline constexpr std::uint16_t source = 0, destination = 2, length = 4, checksum = 6;
}  // namespace udp_at

namespace tcp_at {  // RFC 9293 3.1
inline constexpr std::uint16_t sequence = 4, acknowledgement = 8, data_offset = 12, flags = 13, window = 14, checksum = 16, urgent = 18;
}  // namespace tcp_at

namespace icmp_at {  // RFC 792, RFC 1191 4, RFC 4443 3.2
inline constexpr std::uint16_t type = 0, code = 1, checksum = 2, icmpv6_mtu = 4, icmpv4_mtu = 6, quoted = 8;
}  // namespace icmp_at

namespace esp_at {  // RFC 4303 2
inline constexpr std::uint16_t spi = 0, sequence = 4;
}  // namespace esp_at

namespace ah_at {  // RFC 4302 2
inline constexpr std::uint16_t next_header = 0, length = 1, spi = 4, sequence = 8, icv = 12;
}  // namespace ah_at

inline constexpr std::uint32_t fragment_header_size = 8;
inline constexpr std::uint32_t tcp_header_size = 20;         // without options
inline constexpr std::uint32_t esp_header_size = 8;          // SPI and sequence number; the IV follows
inline constexpr std::uint32_t ah_fixed_size = ah_at::icv;

// Of the field `fragment_at::offset`: three bits stand below the offset, so that it counts octets.
inline constexpr std::uint16_t ipv6_offset_mask = 0xfff8;
inline constexpr std::uint16_t ipv6_more_fragments = 0x0001;

}  // namespace groupvpn
