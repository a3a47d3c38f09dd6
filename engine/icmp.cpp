#include "icmp.hpp"

#include <algorithm>
#include <cstring>

#include "checksum.hpp"

namespace groupvpn {
namespace {

constexpr std::uint8_t echo_reply = 0, echo_request = 8, timestamp_request = 13, timestamp_reply = 14;
constexpr std::uint8_t destination_unreachable = 3, fragmentation_needed = 4;
constexpr std::uint8_t first_icmpv6_inquiry = 128, packet_too_big = 2, redirect = 137;

bool is_host(std::uint32_t address) noexcept { return address >> 24 != 0 && address >> 24 != 127 && address >> 29 != 7; }

bool is_host(const std::uint8_t* address) noexcept {
  constexpr std::uint8_t unspecified[16] = {};
  return address[0] != 0xff && std::memcmp(address, unspecified, 16) != 0;
}

}  // namespace

bool may_answer_with_icmp(const Ipv4& original) noexcept {
  if (!is_host(original.source()) || !is_host(original.destination())) return false;
  if ((original.fragment_field() & Ipv4::offset_mask) != 0) return false;
  if (original.protocol() != protocol_icmp) return true;
  if (original.payload_length() == 0) return false;
  const std::uint8_t type = *original.payload();
  return type == echo_reply || type == echo_request || type == timestamp_request || type == timestamp_reply;
}

bool may_answer_with_icmp(const Ipv6& original) noexcept {
  if (!is_host(original.source()) || !is_host(original.destination())) return false;
  const std::optional<Ipv6Chain> chain = Ipv6Chain::walk(original);
  if (!chain) return false;
  if (chain->fragment != 0 && load16(original.data() + chain->fragment + 2) >> 3 != 0) return false;  // a later fragment
  if (chain->protocol != protocol_icmpv6) return true;
  if (chain->upper == original.total_length()) return false;
  const std::uint8_t type = original.data()[chain->upper];
  return type >= first_icmpv6_inquiry && type != redirect;
}

std::uint32_t write_fragmentation_needed(const Ipv4& original, std::uint32_t mtu, std::span<std::uint8_t, icmp_maximum_size> out) noexcept {
  constexpr std::uint32_t headers = ipv4_header_size + 8;
  const std::uint32_t quoted = std::min(original.total_length(), icmp_maximum_size - headers);
  const std::uint32_t length = headers + quoted;
  std::uint8_t* ip = out.data();
  std::memset(ip, 0, headers);
  ip[0] = 0x45;
  ip[1] = 0xc0;  // internetwork control (RFC 1812 4.3.2.5)
  store16(ip + 2, static_cast<std::uint16_t>(length));
  ip[8] = 64;
  ip[9] = protocol_icmp;
  store32(ip + 12, original.destination());
  store32(ip + 16, original.source());
  write_header_checksum(ip);

  std::uint8_t* icmp = ip + ipv4_header_size;
  icmp[0] = destination_unreachable;
  icmp[1] = fragmentation_needed;
  store16(icmp + 6, static_cast<std::uint16_t>(mtu));
  std::memcpy(icmp + 8, original.data(), quoted);
  store16(icmp + 2, checksum(icmp, 8 + quoted));
  return length;
}

std::uint32_t write_packet_too_big(const Ipv6& original, std::uint32_t mtu, std::span<std::uint8_t, icmpv6_maximum_size> out) noexcept {
  constexpr std::uint32_t headers = ipv6_header_size + 8;
  const std::uint32_t quoted = std::min(original.total_length(), icmpv6_maximum_size - headers);
  std::uint8_t* ip = out.data();
  std::memset(ip, 0, headers);
  ip[0] = 0x60;
  store16(ip + 4, static_cast<std::uint16_t>(8 + quoted));
  ip[6] = protocol_icmpv6;
  ip[7] = 64;
  std::memcpy(ip + 8, original.destination(), 16);
  std::memcpy(ip + 24, original.source(), 16);

  std::uint8_t* icmp = ip + ipv6_header_size;
  icmp[0] = packet_too_big;
  store32(icmp + 4, mtu);
  std::memcpy(icmp + 8, original.data(), quoted);
  store16(icmp + 2, finish_sum(add_sum(icmp, 8 + quoted, pseudo_header_sum(ip, protocol_icmpv6, 8 + quoted))));
  return headers + quoted;
}

}  // namespace groupvpn
