#include "cut.hpp"

#include <algorithm>
#include <cstring>

#include "checksum.hpp"

namespace groupvpn {
namespace {

constexpr std::uint32_t tcp_header_size = 20;
constexpr std::uint32_t udp_header_size = 8;
constexpr std::uint8_t tcp_fin_push = 0x01 | 0x08;
constexpr std::uint8_t tcp_cwr = 0x80;

// Completes the one checksum that the kernel left to us: the field holds the sum of the pseudo header already.
Reason complete_checksum(std::uint8_t* frame, std::size_t link_size, const Ipv4& ip, const Offload& offload) noexcept {
  const std::size_t end = link_size + ip.total_length();
  const std::size_t field = std::size_t{offload.checksum_start} + offload.checksum_offset;
  if (offload.checksum_start < link_size + ip.header_length() || field + 2 > end) return Reason::malformed;
  std::uint16_t sum = checksum(frame + offload.checksum_start, end - offload.checksum_start);
  if (sum == 0 && ip.protocol() == protocol_udp) sum = 0xffff;  // 0 would say "no checksum" (RFC 768)
  store16(frame + field, sum);
  return Reason::delivered;
}

// The IPv4 header of a segment: that of the super-packet with its own length and identification.
void write_segment_header(const Ipv4& ip, std::uint8_t* segment, std::uint32_t header_length, std::uint32_t length, std::uint16_t index) noexcept {
  std::memcpy(segment, ip.data(), header_length);
  store16(segment + 2, static_cast<std::uint16_t>(length));
  store16(segment + 4, static_cast<std::uint16_t>(ip.identification() + index));
  write_header_checksum(segment);
}

// Options that a fragment other than the first does not repeat become padding (RFC 791 3.1, the copied flag).
void blank_uncopied_options(std::uint8_t* options, std::size_t length) noexcept {
  constexpr std::uint8_t end_of_list = 0, no_operation = 1, copied = 0x80;
  for (std::size_t at = 0; at < length;) {
    if (options[at] == end_of_list) return;
    if (options[at] == no_operation) {
      ++at;
      continue;
    }
    const std::size_t size = at + 1 < length ? options[at + 1] : 0;
    if (size < 2 || at + size > length) return;
    if ((options[at] & copied) == 0) std::memset(options + at, no_operation, size);
    at += size;
  }
}

}  // namespace

Reason Cutter::cut(std::uint8_t* frame, std::size_t link_size, const Ipv4& ip, const Offload& offload, const CutLimits& limits,
                   PacketSink& sink) noexcept {
  switch (offload.gso_type) {
    case Offload::gso_none: break;
    case Offload::gso_tcp4: return cut_tcp(ip, offload, limits, sink);
    case Offload::gso_udp_segmentation: return cut_udp(ip, offload, limits, sink);
    default: return Reason::malformed;
  }
  if ((offload.flags & Offload::needs_checksum) != 0) {
    if (const Reason reason = complete_checksum(frame, link_size, ip, offload); reason != Reason::delivered) return reason;
  }
  return pass(ip, limits, sink);
}

Reason Cutter::cut_tcp(const Ipv4& ip, const Offload& offload, const CutLimits& limits, PacketSink& sink) noexcept {
  if (ip.protocol() != protocol_tcp || ip.is_fragment() || ip.payload_length() < tcp_header_size) return Reason::malformed;
  const std::uint8_t* tcp = ip.payload();
  const std::uint32_t tcp_length = (tcp[12] >> 4) * 4U;
  if (tcp_length < tcp_header_size || tcp_length > ip.payload_length() || offload.segment_size == 0) return Reason::malformed;

  const std::uint32_t headers = ip.header_length() + tcp_length;
  if (headers >= limits.inner_mtu) return Reason::too_big;
  const std::uint32_t segment_size = std::min<std::uint32_t>(offload.segment_size, limits.inner_mtu - headers);
  const std::uint32_t data_length = ip.payload_length() - tcp_length;
  const std::uint32_t sequence = load32(tcp + 4);
  std::uint16_t index = 0;
  for (std::uint32_t at = 0; at < data_length || index == 0; at += segment_size, ++index) {
    const std::uint32_t size = std::min(segment_size, data_length - at);
    const bool is_last = at + size == data_length;
    std::uint8_t* segment = sink.open(headers + size);
    if (segment == nullptr) return Reason::oversize;
    write_segment_header(ip, segment, ip.header_length(), headers + size, index);
    std::uint8_t* out = segment + ip.header_length();
    std::memcpy(out, tcp, tcp_length);
    std::memcpy(out + tcp_length, tcp + tcp_length + at, size);
    store32(out + 4, sequence + at);
    if (!is_last) out[13] &= static_cast<std::uint8_t>(~tcp_fin_push);
    if (index != 0) out[13] &= static_cast<std::uint8_t>(~tcp_cwr);  // announced once (RFC 3168 6.1.2)
    store16(out + 16, 0);
    store16(out + 16, finish_sum(add_sum(out, tcp_length + size, pseudo_header_sum(segment, protocol_tcp, tcp_length + size))));
    sink.commit(headers + size);
  }
  return Reason::delivered;
}

Reason Cutter::cut_udp(const Ipv4& ip, const Offload& offload, const CutLimits& limits, PacketSink& sink) noexcept {
  if (ip.protocol() != protocol_udp || ip.is_fragment() || ip.payload_length() < udp_header_size || offload.segment_size == 0) {
    return Reason::malformed;
  }
  const std::uint8_t* udp = ip.payload();
  const std::uint32_t headers = ip.header_length() + udp_header_size;
  const std::uint32_t data_length = ip.payload_length() - udp_header_size;
  const bool fits = headers + std::min<std::uint32_t>(offload.segment_size, data_length) <= limits.inner_mtu;
  if (!fits && ip.has_dont_fragment() && !limits.clear_df) return Reason::too_big;
  // A datagram that must be fragmented is put together here first; the sink holds only what fits.
  std::array<std::uint8_t, ipv4_maximum_size> whole;
  std::uint16_t index = 0;
  for (std::uint32_t at = 0; at < data_length || index == 0; at += offload.segment_size, ++index) {
    const std::uint32_t size = std::min<std::uint32_t>(offload.segment_size, data_length - at);
    std::uint8_t* segment = fits ? sink.open(headers + size) : whole.data();
    if (segment == nullptr) return Reason::oversize;
    write_segment_header(ip, segment, ip.header_length(), headers + size, index);
    std::uint8_t* out = segment + ip.header_length();
    std::memcpy(out, udp, udp_header_size);
    std::memcpy(out + udp_header_size, udp + udp_header_size + at, size);
    store16(out + 4, static_cast<std::uint16_t>(udp_header_size + size));
    store16(out + 6, 0);
    const std::uint16_t sum =
        finish_sum(add_sum(out, udp_header_size + size, pseudo_header_sum(segment, protocol_udp, udp_header_size + size)));
    store16(out + 6, sum == 0 ? std::uint16_t{0xffff} : sum);
    if (fits) {
      sink.commit(headers + size);
      continue;
    }
    const std::optional<Ipv4> datagram = Ipv4::parse(segment, headers + size);
    if (!datagram) return Reason::malformed;
    if (const Reason reason = pass(*datagram, limits, sink); reason != Reason::delivered) return reason;
  }
  return Reason::delivered;
}

Reason Cutter::pass(const Ipv4& ip, const CutLimits& limits, PacketSink& sink) noexcept {
  const std::uint32_t length = ip.total_length();
  if (length > limits.inner_mtu) {
    return ip.has_dont_fragment() && !limits.clear_df ? Reason::too_big : fragment(ip, limits, sink);
  }
  std::uint8_t* out = sink.open(length);
  if (out == nullptr) return Reason::oversize;
  std::memcpy(out, ip.data(), length);
  sink.commit(length);
  return Reason::delivered;
}

// RFC 791 3.2. The parts are of equal size, so that a further tunnel on the way need not cut again.
Reason Cutter::fragment(const Ipv4& ip, const CutLimits& limits, PacketSink& sink) noexcept {
  const std::uint32_t header_length = ip.header_length();
  if (limits.inner_mtu < header_length + 8) return Reason::too_big;
  const std::uint32_t payload_length = ip.payload_length();
  const std::uint32_t largest = (limits.inner_mtu - header_length) / 8 * 8;
  const std::uint32_t count = (payload_length + largest - 1) / largest;
  const std::uint32_t size = ((payload_length + count - 1) / count + 7) / 8 * 8;
  const std::uint16_t field = ip.fragment_field();
  // With DF set the identification need not be unique (RFC 6864 4.1; Linux sends 0), so such a packet gets one of ours.
  const std::uint16_t identification = ip.has_dont_fragment() ? next_identification_++ : ip.identification();

  for (std::uint32_t at = 0; at < payload_length; at += size) {
    const std::uint32_t part = std::min(size, payload_length - at);
    std::uint8_t* out = sink.open(header_length + part);
    if (out == nullptr) return Reason::oversize;
    std::memcpy(out, ip.data(), header_length);
    std::memcpy(out + header_length, ip.payload() + at, part);
    const bool has_more = at + part < payload_length || (field & Ipv4::more_fragments) != 0;
    const std::uint32_t offset = (field & Ipv4::offset_mask) + at / 8;
    store16(out + 2, static_cast<std::uint16_t>(header_length + part));
    store16(out + 4, identification);
    store16(out + 6, static_cast<std::uint16_t>((has_more ? Ipv4::more_fragments : 0) | (offset & Ipv4::offset_mask)));
    if (offset != 0) blank_uncopied_options(out + ipv4_header_size, header_length - ipv4_header_size);
    write_header_checksum(out);
    sink.commit(header_length + part);
  }
  return Reason::delivered;
}

}  // namespace groupvpn
