// Octets in network order, checked views of headers, and the packet that travels through the stages.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "header_fields.hpp"
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

inline constexpr std::uint8_t protocol_hop_by_hop = 0;
inline constexpr std::uint8_t protocol_icmp = 1;
inline constexpr std::uint8_t protocol_ipip = 4;
inline constexpr std::uint8_t protocol_tcp = 6;
inline constexpr std::uint8_t protocol_udp = 17;
inline constexpr std::uint8_t protocol_ipv6 = 41;
inline constexpr std::uint8_t protocol_routing = 43;
inline constexpr std::uint8_t protocol_fragment = 44;
inline constexpr std::uint8_t protocol_esp = 50;
inline constexpr std::uint8_t protocol_ah = 51;
inline constexpr std::uint8_t protocol_icmpv6 = 58;
inline constexpr std::uint8_t protocol_none = 59;
inline constexpr std::uint8_t protocol_destination_options = 60;

inline constexpr std::size_t ipv4_header_size = 20;
inline constexpr std::size_t ipv4_maximum_size = 65535;
inline constexpr std::size_t ipv6_header_size = 40;
inline constexpr std::size_t ipv6_maximum_size = 40 + 65535;  // without jumbograms
inline constexpr std::uint32_t ipv6_minimum_mtu = 1280;  // which every link carries, and no source has to go below (RFC 8200 5)
inline constexpr std::uint32_t udp_header_size = 8;

enum class Family : std::uint8_t { none = 0, ipv4 = 4, ipv6 = 6 };

// The family that the first octet of a packet names.
inline Family family_of(std::uint8_t first_octet) noexcept {
  return first_octet >> 4 == 4 ? Family::ipv4 : first_octet >> 4 == 6 ? Family::ipv6 : Family::none;
}

// In network order; of IPv4 the first `address_size` octets are the address and the others 0, where nothing else is said.
using Address = std::array<std::uint8_t, 16>;

inline constexpr std::size_t maximum_size(Family family) noexcept { return family == Family::ipv6 ? ipv6_maximum_size : ipv4_maximum_size; }

inline constexpr std::size_t address_size(Family family) noexcept { return family == Family::ipv6 ? 16 : 4; }

// An IPv4 packet whose header was checked: 20 <= header_length <= total_length <= octets behind the pointer (RFC 791 3.1), and as a fragment it
// ends within the largest datagram. Elsewhere no host could put it together, and its offset would go round where it is cut: its end would become a
// packet with ports that the sender chose and no access list saw.
class Ipv4 {
 public:
  static constexpr std::uint16_t dont_fragment = 0x4000;
  static constexpr std::uint16_t more_fragments = 0x2000;
  static constexpr std::uint16_t offset_mask = 0x1fff;

  static std::optional<Ipv4> parse(std::uint8_t* octets, std::size_t available) noexcept {
    if (available < ipv4_header_size || octets[0] >> 4 != 4) return std::nullopt;
    const std::size_t header = (octets[0] & 0x0fU) * 4U;
    const std::size_t total = load16(octets + ipv4_at::total_length);
    if (header < ipv4_header_size || total < header || total > available) return std::nullopt;
    const std::size_t offset = (load16(octets + ipv4_at::fragment) & offset_mask) * std::size_t{8};
    if (offset + total > ipv4_maximum_size) return std::nullopt;
    return Ipv4(octets);
  }

  [[nodiscard]] std::uint8_t* data() const noexcept { return octets_; }
  [[nodiscard]] std::uint32_t header_length() const noexcept { return (octets_[0] & 0x0fU) * 4U; }
  [[nodiscard]] std::uint8_t tos() const noexcept { return octets_[ipv4_at::tos]; }
  [[nodiscard]] std::uint32_t total_length() const noexcept { return load16(octets_ + ipv4_at::total_length); }
  [[nodiscard]] std::uint16_t identification() const noexcept { return load16(octets_ + ipv4_at::identification); }
  [[nodiscard]] std::uint16_t fragment_field() const noexcept { return load16(octets_ + ipv4_at::fragment); }
  [[nodiscard]] bool has_dont_fragment() const noexcept { return (fragment_field() & dont_fragment) != 0; }
  [[nodiscard]] bool is_fragment() const noexcept { return (fragment_field() & (more_fragments | offset_mask)) != 0; }
  [[nodiscard]] std::uint8_t protocol() const noexcept { return octets_[ipv4_at::protocol]; }
  [[nodiscard]] std::uint32_t source() const noexcept { return load32(octets_ + ipv4_at::source); }
  [[nodiscard]] std::uint32_t destination() const noexcept { return load32(octets_ + ipv4_at::destination); }
  [[nodiscard]] std::uint8_t* payload() const noexcept { return octets_ + header_length(); }
  [[nodiscard]] std::uint32_t payload_length() const noexcept { return total_length() - header_length(); }

 private:
  explicit Ipv4(std::uint8_t* octets) noexcept : octets_(octets) {}
  std::uint8_t* octets_;
};

// An IPv6 packet whose header was checked: 40 + payload length <= octets behind the pointer (RFC 8200 3). A jumbogram (RFC 2675) reads as a
// packet without payload.
class Ipv6 {
 public:
  static std::optional<Ipv6> parse(std::uint8_t* octets, std::size_t available) noexcept {
    if (available < ipv6_header_size || octets[0] >> 4 != 6) return std::nullopt;
    if (ipv6_header_size + load16(octets + ipv6_at::payload_length) > available) return std::nullopt;
    return Ipv6(octets);
  }

  [[nodiscard]] std::uint8_t* data() const noexcept { return octets_; }
  [[nodiscard]] std::uint8_t traffic_class() const noexcept { return static_cast<std::uint8_t>(load16(octets_) >> 4); }
  [[nodiscard]] std::uint32_t payload_length() const noexcept { return load16(octets_ + ipv6_at::payload_length); }
  [[nodiscard]] std::uint32_t total_length() const noexcept { return static_cast<std::uint32_t>(ipv6_header_size) + payload_length(); }
  [[nodiscard]] std::uint8_t next_header() const noexcept { return octets_[ipv6_at::next_header]; }
  [[nodiscard]] const std::uint8_t* source() const noexcept { return octets_ + ipv6_at::source; }
  [[nodiscard]] const std::uint8_t* destination() const noexcept { return octets_ + ipv6_at::destination; }
  [[nodiscard]] bool is_multicast() const noexcept { return octets_[ipv6_at::destination] == 0xff; }

 private:
  explicit Ipv6(std::uint8_t* octets) noexcept : octets_(octets) {}
  std::uint8_t* octets_;
};

// Where the extension headers of an IPv6 packet lead (RFC 8200 4). Offsets count from the start of the IPv6 header.
struct Ipv6Chain {
  std::uint8_t protocol;       // of the first header that is not hop-by-hop options, routing, fragment or destination options
  std::uint32_t upper;         // where that header begins; at most the end of the packet
  std::uint32_t named_at;      // the octet that holds `protocol`
  std::uint32_t fragment = 0;  // where the fragment header begins that makes this a part of a packet, or one that says "whole"; 0: there is none.
                               // Behind it the walk goes on only in a first fragment
  std::uint32_t fragment_named_at = 0;  // the octet that names it
  std::uint32_t unfragmentable = ipv6_header_size;  // end of the headers for every router: hop-by-hop, routing, and options before it
  std::uint32_t unfragmentable_named_at = ipv6_at::next_header;  // the octet that names what comes there
  bool has_hops_left = false;  // a routing header names nodes that come before its destination (RFC 8200 4.4)

  // Whether this is part of a packet, and not a whole one in spite of its fragment header (RFC 6946).
  [[nodiscard]] bool is_fragment(const Ipv6& ip) const noexcept {
    return fragment != 0 && (load16(ip.data() + fragment + fragment_at::offset) & (ipv6_offset_mask | ipv6_more_fragments)) != 0;
  }

  // None if an extension header reaches beyond the packet.
  static std::optional<Ipv6Chain> walk(const Ipv6& ip) noexcept {
    Ipv6Chain chain{ip.next_header(), ipv6_header_size, ipv6_at::next_header};
    const std::uint8_t* octets = ip.data();
    const std::uint32_t end = ip.total_length();
    while (true) {
      const bool is_fragment_header = chain.protocol == protocol_fragment;
      if (chain.protocol != protocol_hop_by_hop && chain.protocol != protocol_routing && chain.protocol != protocol_destination_options &&
          !is_fragment_header) {
        return chain;
      }
      if (end - chain.upper < 8) return std::nullopt;
      const std::uint32_t size = is_fragment_header ? fragment_header_size : (octets[chain.upper + 1] + 1U) * 8U;
      if (end - chain.upper < size) return std::nullopt;
      const std::uint8_t kind = chain.protocol;
      if (is_fragment_header && !chain.is_fragment(ip)) {
        chain.fragment = chain.upper;
        chain.fragment_named_at = chain.named_at;
      }
      if (kind == protocol_routing && octets[chain.upper + 3] != 0) chain.has_hops_left = true;
      chain.protocol = octets[chain.upper];
      chain.named_at = chain.upper;
      chain.upper += size;
      if (chain.fragment == 0 && (kind == protocol_hop_by_hop || kind == protocol_routing)) {
        chain.unfragmentable = chain.upper;
        chain.unfragmentable_named_at = chain.named_at;
      }
      if (is_fragment_header && (load16(octets + chain.named_at + fragment_at::offset) & ipv6_offset_mask) != 0) {
        return chain;  // what follows is the middle of something
      }
    }
  }
};

inline constexpr bool is_multicast(std::uint32_t address) noexcept { return address >> 28 == 0xe; }

// The Ethernet header of a frame, with at most two VLAN tags; `size` octets lead to the IP header.
struct LinkHeader {
  static constexpr std::size_t maximum_size = 22;
  std::size_t size;
  Family family;

  static std::uint16_t ethertype_of(Family family) noexcept { return family == Family::ipv6 ? 0x86dd : 0x0800; }

  static std::optional<LinkHeader> parse(const std::uint8_t* frame, std::size_t length) noexcept {
    for (std::size_t type = 12; type <= maximum_size - 2; type += 4) {
      if (length < type + 2) return std::nullopt;
      const std::uint16_t ethertype = load16(frame + type);
      if (ethertype == 0x0800) return LinkHeader{type + 2, Family::ipv4};
      if (ethertype == 0x86dd) return LinkHeader{type + 2, Family::ipv6};
      if (ethertype != 0x8100 && ethertype != 0x88a8) return std::nullopt;
    }
    return std::nullopt;
  }
};

// What the header around ESP or AH said. With a `family` it has been read, and the packet begins behind it, at the SPI of ESP or at AH.
// A stage before decapsulation may fill it itself, for packets that share one header.
struct Outer {
  Outer() noexcept {}  // the addresses stay as they are: a burst would pay for zeros that nobody needs

  Family family = Family::none;  // none: nobody has looked yet, the packet begins with its outer header
  std::uint8_t protocol = 0;     // ESP or AH
  std::uint8_t tos = 0;          // traffic class, ECN included
  std::uint32_t named_at = 0;    // the octet of the header that names what follows it, before UDP
  std::uint32_t header_length = 0;  // octets right before the packet that are this header, with options, extension headers and UDP; 0: it
                                    // stands elsewhere, which AH and transport mode cannot take
  bool has_udp = false;  // it is in UDP (RFC 3948)
  Address source, destination;  // with a family only, and then `address_size` octets: what is behind them is left over from other packets
};

// A packet in a stage: `length` octets at `data` are IP; `headroom` octets before and `tailroom` behind may be written.
// A stage that gives up on it sets `reason`; later stages pass it by.
struct Packet {
  std::uint8_t* data = nullptr;
  std::uint32_t length = 0;
  std::uint32_t headroom = 0;
  std::uint32_t tailroom = 0;
  Reason reason = Reason::delivered;
  Sa* sa = nullptr;  // kept alive by the SA set that the burst holds
  Outer outer{};     // inbound only

  // Makes it begin at `begin`, with `octets` octets; all of that is inside what it was, with its room.
  void reshape(std::uint8_t* begin, std::uint32_t octets) noexcept {
    const std::ptrdiff_t moved = begin - data;
    tailroom = static_cast<std::uint32_t>(tailroom + length - moved - octets);
    headroom = static_cast<std::uint32_t>(headroom + moved);
    data = begin;
    length = octets;
  }
};

}  // namespace groupvpn
