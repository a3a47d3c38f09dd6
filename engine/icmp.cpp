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
  if (chain->fragment != 0 && (load16(original.data() + chain->fragment + fragment_at::offset) & ipv6_offset_mask) != 0) return false;
  if (chain->protocol != protocol_icmpv6) return true;
  if (chain->upper == original.total_length()) return false;
  const std::uint8_t type = original.data()[chain->upper];
  return type >= first_icmpv6_inquiry && type != redirect;
}

std::uint32_t write_fragmentation_needed(const Ipv4& original, std::uint32_t mtu, std::span<std::uint8_t, icmp_maximum_size> out) noexcept {
  constexpr std::uint32_t headers = ipv4_header_size + icmp_at::quoted;
  const std::uint32_t quoted = std::min(original.total_length(), icmp_maximum_size - headers);
  const std::uint32_t length = headers + quoted;
  std::uint8_t* ip = out.data();
  std::memset(ip, 0, headers);
  ip[0] = 0x45;
  ip[ipv4_at::tos] = 0xc0;  // internetwork control (RFC 1812 4.3.2.5)
  store16(ip + ipv4_at::total_length, static_cast<std::uint16_t>(length));
  ip[ipv4_at::ttl] = 64;
  ip[ipv4_at::protocol] = protocol_icmp;
  store32(ip + ipv4_at::source, original.destination());
  store32(ip + ipv4_at::destination, original.source());
  write_header_checksum(ip);

  std::uint8_t* icmp = ip + ipv4_header_size;
  icmp[icmp_at::type] = destination_unreachable;
  icmp[icmp_at::code] = fragmentation_needed;
  store16(icmp + icmp_at::icmpv4_mtu, static_cast<std::uint16_t>(mtu));
  std::memcpy(icmp + icmp_at::quoted, original.data(), quoted);
  store16(icmp + icmp_at::checksum, checksum(icmp, icmp_at::quoted + quoted));
  return length;
}

std::uint32_t write_packet_too_big(const Ipv6& original, std::uint32_t mtu, std::span<std::uint8_t, icmpv6_maximum_size> out) noexcept {
  constexpr std::uint32_t headers = ipv6_header_size + icmp_at::quoted;
  const std::uint32_t quoted = std::min(original.total_length(), icmpv6_maximum_size - headers);
  const std::uint32_t length = icmp_at::quoted + quoted;
  std::uint8_t* ip = out.data();
  std::memset(ip, 0, headers);
  ip[0] = 0x60;
  store16(ip + ipv6_at::payload_length, static_cast<std::uint16_t>(length));
  ip[ipv6_at::next_header] = protocol_icmpv6;
  ip[ipv6_at::hop_limit] = 64;
  std::memcpy(ip + ipv6_at::source, original.destination(), 16);
  std::memcpy(ip + ipv6_at::destination, original.source(), 16);

  std::uint8_t* icmp = ip + ipv6_header_size;
  icmp[icmp_at::type] = packet_too_big;
  store32(icmp + icmp_at::icmpv6_mtu, mtu);
  std::memcpy(icmp + icmp_at::quoted, original.data(), quoted);
  store16(icmp + icmp_at::checksum, finish_sum(add_sum(icmp, length, pseudo_header_sum(ip, protocol_icmpv6, length))));
  return headers + quoted;
}

}  // namespace groupvpn
