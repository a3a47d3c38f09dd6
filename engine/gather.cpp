#include "gather.hpp"

#include <cstring>

#include "checksum.hpp"

namespace groupvpn {
namespace {

// Octets of IP and UDP header of a packet that others may follow, else 0. Our own outer headers have no options and no extension headers.
// Linux drops super-packets longer than the MTU where it forwards multicast (ipmr.c compares the whole length, seen on 6.18).
std::uint16_t headers_of(const Packet& packet) noexcept {
  const std::uint8_t* ip = packet.data;
  const bool is_ipv6 = family_of(*ip) == Family::ipv6;
  const std::size_t size = is_ipv6 ? ipv6_header_size : ipv4_header_size;
  if (packet.length <= size + udp_header_size) return 0;
  if (is_ipv6) {
    if (ip[ipv6_at::next_header] != protocol_udp || ip[ipv6_at::destination] == 0xff) return 0;
    if (load16(ip + ipv6_at::payload_length) != packet.length - size) return 0;
  } else {
    const bool is_plain = ip[0] == 0x45 && (load16(ip + ipv4_at::fragment) & (Ipv4::more_fragments | Ipv4::offset_mask)) == 0;
    if (!is_plain || ip[ipv4_at::protocol] != protocol_udp || is_multicast(load32(ip + ipv4_at::destination))) return 0;
    if (load16(ip + ipv4_at::total_length) != packet.length) return 0;
  }
  return load16(ip + size + udp_at::length) == packet.length - size ? static_cast<std::uint16_t>(size + udp_header_size) : 0;
}

bool have_same_ipv4(const std::uint8_t* first, const std::uint8_t* other, std::uint16_t index) noexcept {
  const bool has_dont_fragment = (load16(first + ipv4_at::fragment) & Ipv4::dont_fragment) != 0;
  const auto expected = static_cast<std::uint16_t>(load16(first + ipv4_at::identification) + index);
  const bool counts_up = load16(other + ipv4_at::identification) == expected;
  return (has_dont_fragment || counts_up) && std::memcmp(first, other, 2) == 0 &&
         std::memcmp(first + ipv4_at::fragment, other + ipv4_at::fragment, 4) == 0 &&  // and TTL and protocol
         std::memcmp(first + ipv4_at::source, other + ipv4_at::source, 8) == 0;
}

bool have_same_ipv6(const std::uint8_t* first, const std::uint8_t* other) noexcept {
  constexpr std::size_t behind_length = ipv6_at::next_header;
  return std::memcmp(first, other, 4) == 0 &&
         std::memcmp(first + behind_length, other + behind_length, ipv6_header_size - behind_length) == 0;
}

// Whether `next` continues what begins with `first`; both have headers of `gathered.headers` octets.
bool continues(const Gathered& gathered, const Outgoing& first, const Outgoing& next) noexcept {
  const std::uint8_t* a = first.packet->data;
  const std::uint8_t* b = next.packet->data;
  const std::uint32_t size = next.packet->length - gathered.headers;
  if (next.packet->sa != first.packet->sa || size > gathered.segment_size || gathered.length + size > ipv4_maximum_size) return false;
  if (next.link_size != first.link_size || std::memcmp(a - first.link_size, b - next.link_size, first.link_size) != 0) return false;
  const bool is_ipv6 = gathered.headers == ipv6_header_size + udp_header_size;
  if (!(is_ipv6 ? have_same_ipv6(a, b) : have_same_ipv4(a, b, gathered.count))) return false;
  const std::size_t udp = gathered.headers - udp_header_size;
  return std::memcmp(a + udp, b + udp, 4) == 0;  // ports
}

// The checksum field gets what the kernel wants to find there: the sum of the pseudo header.
void write_headers(const Gathered& gathered, std::uint8_t* ip) noexcept {
  const std::uint32_t ip_size = gathered.headers - static_cast<std::uint32_t>(udp_header_size);
  const std::uint32_t length = gathered.length - ip_size;
  set_total_length(ip, gathered.length);
  std::uint8_t* udp = ip + ip_size;
  store16(udp + udp_at::length, static_cast<std::uint16_t>(length));
  store16(udp + udp_at::checksum, static_cast<std::uint16_t>(~finish_sum(pseudo_header_sum(ip, protocol_udp, length))));
}

}  // namespace

std::span<const Gathered> Gatherer::gather(std::span<const Outgoing> burst) noexcept {
  std::size_t count = 0;
  bool is_open = false;  // another packet may join the last frame
  for (std::size_t index = 0; index < burst.size(); ++index) {
    const Packet& packet = *burst[index].packet;
    const std::uint16_t headers = headers_of(packet);
    if (is_open && headers == frames_[count - 1].headers) {
      Gathered& frame = frames_[count - 1];
      if (continues(frame, burst[frame.first], burst[index])) {
        const std::uint32_t size = packet.length - headers;
        frame.length += size;
        ++frame.count;
        is_open = size == frame.segment_size && frame.count < maximum_segments;
        continue;
      }
    }
    const auto segment_size = static_cast<std::uint16_t>(packet.length - headers);
    frames_[count++] = {static_cast<std::uint16_t>(index), 1, segment_size, headers, packet.length};
    is_open = headers != 0;
  }
  for (const Gathered& frame : std::span(frames_).first(count)) {
    if (frame.count > 1) write_headers(frame, burst[frame.first].packet->data);
  }
  return std::span(frames_).first(count);
}

std::span<const Gathered> Gatherer::leave(std::span<const Outgoing> burst) noexcept {
  for (std::size_t index = 0; index < burst.size(); ++index) {
    frames_[index] = {static_cast<std::uint16_t>(index), 1, 0, 0, burst[index].packet->length};
  }
  return std::span(frames_).first(burst.size());
}

Offload offload_of(const Gathered& gathered, std::uint32_t link_size) noexcept {
  Offload offload;
  if (gathered.count == 1) return offload;
  offload.flags = Offload::needs_checksum;
  offload.gso_type = Offload::gso_udp_segmentation;
  offload.header_length = static_cast<std::uint16_t>(link_size + gathered.headers);
  offload.segment_size = gathered.segment_size;
  offload.checksum_start = static_cast<std::uint16_t>(link_size + gathered.headers - udp_header_size);
  offload.checksum_offset = udp_at::checksum;
  return offload;
}

}  // namespace groupvpn
