#include "icmp.hpp"

#include <algorithm>
#include <cstring>

#include "checksum.hpp"

namespace groupvpn {
namespace {

constexpr std::uint8_t echo_reply = 0, echo_request = 8, timestamp_request = 13, timestamp_reply = 14;
constexpr std::uint8_t destination_unreachable = 3, fragmentation_needed = 4;

bool is_host(std::uint32_t address) noexcept { return address >> 24 != 0 && address >> 24 != 127 && address >> 29 != 7; }

}  // namespace

bool may_answer_with_icmp(const Ipv4& original) noexcept {
  if (!is_host(original.source()) || !is_host(original.destination())) return false;
  if ((original.fragment_field() & Ipv4::offset_mask) != 0) return false;
  if (original.protocol() != protocol_icmp) return true;
  if (original.payload_length() == 0) return false;
  const std::uint8_t type = *original.payload();
  return type == echo_reply || type == echo_request || type == timestamp_request || type == timestamp_reply;
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

}  // namespace groupvpn
