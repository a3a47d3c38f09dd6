// Octets in network order, checked views of headers, and the packet that travels through the stages.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "reason.hpp"

namespace groupvpn {

class Sa;

static_assert(std::endian::native == std::endian::little, "the engine runs on x86-64, as intel-ipsec-mb does");

inline std::uint16_t load16(const std::uint8_t* octets) noexcept {
  std::uint16_t value;
  std::memcpy(&value, octets, sizeof value);
  return __builtin_bswap16(value);
}

inline std::uint32_t load32(const std::uint8_t* octets) noexcept {
  std::uint32_t value;
  std::memcpy(&value, octets, sizeof value);
  return __builtin_bswap32(value);
}

inline std::uint64_t load64(const std::uint8_t* octets) noexcept {
  std::uint64_t value;
  std::memcpy(&value, octets, sizeof value);
  return __builtin_bswap64(value);
}

inline void store16(std::uint8_t* octets, std::uint16_t value) noexcept {
  value = __builtin_bswap16(value);
  std::memcpy(octets, &value, sizeof value);
}

inline void store32(std::uint8_t* octets, std::uint32_t value) noexcept {
  value = __builtin_bswap32(value);
  std::memcpy(octets, &value, sizeof value);
}

inline void store64(std::uint8_t* octets, std::uint64_t value) noexcept {
  value = __builtin_bswap64(value);
  std::memcpy(octets, &value, sizeof value);
}

inline constexpr std::uint8_t protocol_icmp = 1;
inline constexpr std::uint8_t protocol_ipip = 4;
inline constexpr std::uint8_t protocol_tcp = 6;
inline constexpr std::uint8_t protocol_udp = 17;
inline constexpr std::uint8_t protocol_esp = 50;
inline constexpr std::uint8_t protocol_none = 59;

inline constexpr std::size_t ipv4_header_size = 20;
inline constexpr std::size_t ipv4_maximum_size = 65535;

// An IPv4 packet whose header was checked: 20 <= header_length <= total_length <= octets behind the pointer (RFC 791 3.1).
class Ipv4 {
 public:
  static constexpr std::uint16_t dont_fragment = 0x4000;
  static constexpr std::uint16_t more_fragments = 0x2000;
  static constexpr std::uint16_t offset_mask = 0x1fff;

  static std::optional<Ipv4> parse(std::uint8_t* octets, std::size_t available) noexcept {
    if (available < ipv4_header_size || octets[0] >> 4 != 4) return std::nullopt;
    const std::size_t header = (octets[0] & 0x0fU) * 4U;
    const std::size_t total = load16(octets + 2);
    if (header < ipv4_header_size || total < header || total > available) return std::nullopt;
    return Ipv4(octets);
  }

  [[nodiscard]] std::uint8_t* data() const noexcept { return octets_; }
  [[nodiscard]] std::uint32_t header_length() const noexcept { return (octets_[0] & 0x0fU) * 4U; }
  [[nodiscard]] std::uint8_t tos() const noexcept { return octets_[1]; }
  [[nodiscard]] std::uint32_t total_length() const noexcept { return load16(octets_ + 2); }
  [[nodiscard]] std::uint16_t identification() const noexcept { return load16(octets_ + 4); }
  [[nodiscard]] std::uint16_t fragment_field() const noexcept { return load16(octets_ + 6); }
  [[nodiscard]] bool has_dont_fragment() const noexcept { return (fragment_field() & dont_fragment) != 0; }
  [[nodiscard]] bool is_fragment() const noexcept { return (fragment_field() & (more_fragments | offset_mask)) != 0; }
  [[nodiscard]] std::uint8_t ttl() const noexcept { return octets_[8]; }
  [[nodiscard]] std::uint8_t protocol() const noexcept { return octets_[9]; }
  [[nodiscard]] std::uint32_t source() const noexcept { return load32(octets_ + 12); }
  [[nodiscard]] std::uint32_t destination() const noexcept { return load32(octets_ + 16); }
  [[nodiscard]] std::uint8_t* payload() const noexcept { return octets_ + header_length(); }
  [[nodiscard]] std::uint32_t payload_length() const noexcept { return total_length() - header_length(); }

 private:
  explicit Ipv4(std::uint8_t* octets) noexcept : octets_(octets) {}
  std::uint8_t* octets_;
};

inline constexpr bool is_multicast(std::uint32_t address) noexcept { return address >> 28 == 0xe; }

// The Ethernet header of a frame, with at most two VLAN tags; `size` octets lead to the IPv4 header.
struct LinkHeader {
  static constexpr std::size_t maximum_size = 22;
  std::size_t size;

  static std::optional<LinkHeader> parse_ipv4(const std::uint8_t* frame, std::size_t length) noexcept {
    for (std::size_t type = 12; type <= maximum_size - 2; type += 4) {
      if (length < type + 2) return std::nullopt;
      const std::uint16_t ethertype = load16(frame + type);
      if (ethertype == 0x0800) return LinkHeader{type + 2};
      if (ethertype != 0x8100 && ethertype != 0x88a8) return std::nullopt;
    }
    return std::nullopt;
  }
};

// A packet in a stage: `length` octets at `data` are IPv4; `headroom` octets before and `tailroom` behind may be written.
// A stage that gives up on it sets `reason`; later stages pass it by.
struct Packet {
  std::uint8_t* data = nullptr;
  std::uint32_t length = 0;
  std::uint32_t headroom = 0;
  std::uint32_t tailroom = 0;
  Reason reason = Reason::delivered;
  Sa* sa = nullptr;  // kept alive by the SA set that the burst holds
};

}  // namespace groupvpn
