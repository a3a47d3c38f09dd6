#include "cut.hpp"

#include <algorithm>
#include <cstring>

#include "checksum.hpp"
#include "fragment.hpp"

namespace groupvpn {
namespace {

constexpr std::uint32_t maximum_tcp_header_size = 60;
constexpr std::uint32_t maximum_ip_header_size = 256;  // with extension headers; more before the transport of a super-packet is no honest one
constexpr std::uint32_t tcp_fin_push = 0x01 | 0x08, tcp_cwr = 0x80;

// Completes the one checksum that the kernel left to us: the field holds the sum of the pseudo header already. It may be that of UDP inside a
// tunnel, which the protocol of the packet does not tell, so it is never 0; that of TCP verifies all the same, since 0 and 0xffff are one number
// in ones' complement.
Reason complete_checksum(std::uint8_t* frame, std::size_t link_size, const CutPacket& ip, const Offload& offload) noexcept {
  const std::size_t end = link_size + ip.total_length;
  const std::size_t field = std::size_t{offload.checksum_start} + offload.checksum_offset;
  if (offload.checksum_start < link_size + ip.ip_length || field + 2 > end) return Reason::malformed;
  const std::uint64_t sum = add_sum(frame + offload.checksum_start, end - offload.checksum_start);
  store16(frame + field, udp_checksum_of(sum));
  return Reason::delivered;
}

// A 16-bit field as `add_sum` would see it.
constexpr std::uint64_t word_of(std::uint32_t value) noexcept { return __builtin_bswap16(static_cast<std::uint16_t>(value)); }

// What stands before the data of each segment of a super-packet. What all segments have in common is summed once.
class SegmentHeaders {
 public:
  // The packet has `transport_length` octets of TCP or UDP header, and at most `maximum_ip_header_size` before it.
  SegmentHeaders(const CutPacket& ip, std::uint32_t transport_length, const Offload& offload) noexcept
      : family_(ip.family), ip_length_(ip.ip_length), length_(ip_length_ + transport_length) {
    std::memcpy(octets_.data(), ip.octets, length_);
    std::uint8_t* header = octets_.data();
    std::uint8_t* transport = header + ip_length_;
    const std::uint64_t pseudo_sum = pseudo_sum_of(ip, offload);
    if (family_ == Family::ipv4) {
      identification_ = load16(header + ipv4_at::identification);
      store32(header + ipv4_at::total_length, 0);  // and identification
      store16(header + ipv4_at::checksum, 0);
      ip_sum_ = add_sum(header, ip_length_);
    }
    if (ip.protocol == protocol_tcp) {
      sequence_ = load32(transport + tcp_at::sequence);
      flags_ = load16(transport + tcp_at::data_offset);
      store32(transport + tcp_at::sequence, 0);
      store16(transport + tcp_at::data_offset, 0);
      store16(transport + tcp_at::checksum, 0);
    } else {
      store32(transport + udp_at::length, 0);  // and checksum
    }
    transport_sum_ = add_sum(transport, transport_length, pseudo_sum);
  }

  [[nodiscard]] std::uint32_t length() const noexcept { return length_; }

  // From segment `index` on they count up from another one.
  void identify_from(std::uint16_t index, std::uint16_t identification) noexcept { identification_ = std::uint32_t{identification} - index; }

  // Writes headers and `size` octets of data, which stand `at` octets behind the start of the data of the super-packet; segment `index`.
  void write_tcp(std::uint8_t* segment, const std::uint8_t* data, std::uint32_t at, std::uint32_t size, std::uint16_t index,
                 bool is_last) const noexcept {
    std::uint8_t* tcp = write_ip(segment, size, index);
    std::uint32_t flags = flags_;
    if (!is_last) flags &= ~tcp_fin_push;
    if (index != 0) flags &= ~tcp_cwr;  // announced once (RFC 3168 6.1.2)
    const std::uint32_t sequence = sequence_ + at;
    store32(tcp + tcp_at::sequence, sequence);
    store16(tcp + tcp_at::data_offset, static_cast<std::uint16_t>(flags));
    const std::uint64_t sum = transport_sum_ + word_of(length_ - ip_length_ + size) + word_of(sequence >> 16) + word_of(sequence) + word_of(flags);
    store16(tcp + tcp_at::checksum, finish_sum(copy_and_sum(segment + length_, data + at, size, sum)));
  }

  void write_udp(std::uint8_t* segment, const std::uint8_t* data, std::uint32_t at, std::uint32_t size, std::uint16_t index) const noexcept {
    std::uint8_t* udp = write_ip(segment, size, index);
    const std::uint32_t length = udp_header_size + size;
    store16(udp + udp_at::length, static_cast<std::uint16_t>(length));
    const std::uint64_t sum = transport_sum_ + 2 * word_of(length);  // in the pseudo header and in the header
    store16(udp + udp_at::checksum, udp_checksum_of(copy_and_sum(segment + length_, data + at, size, sum)));
  }

 private:
  // Of the pseudo header, without the length. It names the destination at the end of the route, and in Mobile IPv6 the home address, which a
  // header with more than addresses need not (RFC 8200 8.1, RFC 6275 11.3.2); but the kernel has left the sum in the field.
  static std::uint64_t pseudo_sum_of(const CutPacket& ip, const Offload& offload) noexcept {
    const std::size_t plain = ip.family == Family::ipv6 ? ipv6_header_size : ipv4_header_size;
    if (ip.ip_length == plain || (offload.flags & Offload::needs_checksum) == 0) return pseudo_header_sum(ip.octets, ip.protocol, 0);
    const std::uint32_t field = ip.protocol == protocol_tcp ? tcp_at::checksum : udp_at::checksum;
    return word_of(load16(ip.transport() + field)) + (0xffff - word_of(ip.transport_length()));
  }

  std::uint8_t* write_ip(std::uint8_t* segment, std::uint32_t size, std::uint16_t index) const noexcept {
    std::memcpy(segment, octets_.data(), length_);
    const std::uint32_t length = length_ + size;
    if (family_ == Family::ipv6) {
      store16(segment + ipv6_at::payload_length, static_cast<std::uint16_t>(length - ipv6_header_size));
    } else {
      const std::uint32_t identification = identification_ + index;
      store16(segment + ipv4_at::total_length, static_cast<std::uint16_t>(length));
      store16(segment + ipv4_at::identification, static_cast<std::uint16_t>(identification));
      store16(segment + ipv4_at::checksum, finish_sum(ip_sum_ + word_of(length) + word_of(identification)));
    }
    return segment + ip_length_;
  }

  Family family_;
  std::uint32_t ip_length_, length_;
  std::uint32_t identification_ = 0;
  std::uint32_t sequence_ = 0, flags_ = 0;  // the 16 bits of data offset, reserved bits and flags
  std::uint64_t ip_sum_ = 0, transport_sum_;
  std::array<std::uint8_t, maximum_ip_header_size + maximum_tcp_header_size> octets_;
};

// Whether a packet can be a super-packet of `protocol`, whose transport header has at least `header_size` octets.
bool may_be_cut(const CutPacket& ip, std::uint8_t protocol, std::uint32_t header_size, const Offload& offload) noexcept {
  return ip.protocol == protocol && !ip.is_fragment && ip.ip_length <= maximum_ip_header_size && ip.transport_length() >= header_size &&
         offload.segment_size != 0;
}

// How many segments have an identification of the kernel's. It has counted those that it saw, and gives the next ones to other packets; with DF they
// need not be unique (RFC 6864 4).
std::uint32_t identified_segments(const CutPacket& ip, std::uint32_t data_length, const Offload& offload) noexcept {
  if (ip.family == Family::ipv6 || (load16(ip.octets + ipv4_at::fragment) & Ipv4::dont_fragment) != 0) return ipv4_maximum_size;
  return std::max<std::uint32_t>((data_length + offload.segment_size - 1U) / offload.segment_size, 1);
}

// Whether a packet of `length` octets with this header may become fragments, before encryption or after it.
bool may_be_fragmented(const CutPacket& ip, std::uint32_t length, const CutLimits& limits) noexcept {
  if (limits.too_long == TooLong::refused) return false;
  if (ip.family == Family::ipv6) return limits.too_long == TooLong::split_later && length <= ipv6_minimum_mtu;
  return limits.clear_df || (load16(ip.octets + ipv4_at::fragment) & Ipv4::dont_fragment) == 0;
}

}  // namespace

std::optional<CutPacket> CutPacket::parse(std::uint8_t* octets, std::size_t available) noexcept {
  if (const std::optional<Ipv4> ip = Ipv4::parse(octets, available)) return CutPacket(*ip);
  const std::optional<Ipv6> ip = Ipv6::parse(octets, available);
  const std::optional<Ipv6Chain> chain = ip ? Ipv6Chain::walk(*ip) : std::nullopt;
  return chain ? std::optional(CutPacket(*ip, *chain)) : std::nullopt;
}

Reason Cutter::cut(std::uint8_t* frame, std::size_t link_size, const CutPacket& ip, const Offload& offload, const CutLimits& limits,
                   PacketSink& sink) noexcept {
  switch (offload.gso_type) {
    case Offload::gso_none: break;
    case Offload::gso_tcp4: return ip.family == Family::ipv4 ? cut_tcp(ip, offload, limits, sink) : Reason::malformed;
    case Offload::gso_tcp6: return ip.family == Family::ipv6 ? cut_tcp(ip, offload, limits, sink) : Reason::malformed;
    case Offload::gso_udp_segmentation: return cut_udp(ip, offload, limits, sink);
    default: return Reason::malformed;
  }
  if ((offload.flags & Offload::needs_checksum) != 0) {
    if (const Reason reason = complete_checksum(frame, link_size, ip, offload); reason != Reason::delivered) return reason;
  }
  return pass(ip, limits, sink);
}

Reason Cutter::cut_tcp(const CutPacket& ip, const Offload& offload, const CutLimits& limits, PacketSink& sink) noexcept {
  if (!may_be_cut(ip, protocol_tcp, tcp_header_size, offload)) return Reason::malformed;
  const std::uint8_t* tcp = ip.transport();
  const std::uint32_t tcp_length = (tcp[tcp_at::data_offset] >> 4) * 4U;
  if (tcp_length < tcp_header_size || tcp_length > ip.transport_length()) return Reason::malformed;

  SegmentHeaders headers(ip, tcp_length, offload);
  if (headers.length() >= limits.inner_mtu) return Reason::too_big;
  const std::uint32_t segment_size = std::min<std::uint32_t>(offload.segment_size, limits.inner_mtu - headers.length());
  const std::uint32_t data_length = ip.transport_length() - tcp_length;
  std::uint32_t at = 0, end = std::min(data_length, identified_segments(ip, data_length, offload) * segment_size);
  std::uint16_t index = 0;
  while (true) {
    for (; at < end || index == 0; at += segment_size, ++index) {
      const std::uint32_t size = std::min(segment_size, data_length - at);
      std::uint8_t* segment = sink.open(headers.length() + size);
      if (segment == nullptr) return Reason::oversize;
      headers.write_tcp(segment, tcp + tcp_length, at, size, index, at + size == data_length);
      sink.commit(headers.length() + size);
    }
    if (end == data_length) return Reason::delivered;
    headers.identify_from(index, next_identification_);
    next_identification_ = static_cast<std::uint16_t>(next_identification_ + (data_length - at + segment_size - 1) / segment_size);
    end = data_length;
  }
}

Reason Cutter::cut_udp(const CutPacket& ip, const Offload& offload, const CutLimits& limits, PacketSink& sink) noexcept {
  if (!may_be_cut(ip, protocol_udp, udp_header_size, offload)) return Reason::malformed;
  const SegmentHeaders headers(ip, udp_header_size, offload);
  const std::uint8_t* data = ip.transport() + udp_header_size;
  const std::uint32_t data_length = ip.transport_length() - udp_header_size;
  const std::uint32_t longest = headers.length() + std::min<std::uint32_t>(offload.segment_size, data_length);
  const bool fits = longest <= limits.inner_mtu;
  if (!fits && !may_be_fragmented(ip, longest, limits)) return Reason::too_big;
  // A datagram that must be fragmented is put together here first; the sink holds only what fits.
  std::array<std::uint8_t, ipv4_maximum_size> whole;
  std::uint16_t index = 0;
  for (std::uint32_t at = 0; at < data_length || index == 0; at += offload.segment_size, ++index) {
    const std::uint32_t size = std::min<std::uint32_t>(offload.segment_size, data_length - at);
    std::uint8_t* segment = fits ? sink.open(headers.length() + size) : whole.data();
    if (segment == nullptr) return Reason::oversize;
    headers.write_udp(segment, data, at, size, index);
    if (fits) {
      sink.commit(headers.length() + size);
      continue;
    }
    const std::optional<CutPacket> datagram = CutPacket::parse(segment, headers.length() + size);
    if (!datagram) return Reason::malformed;
    if (const Reason reason = pass(*datagram, limits, sink); reason != Reason::delivered) return reason;
  }
  return Reason::delivered;
}

Reason Cutter::pass(const CutPacket& ip, const CutLimits& limits, PacketSink& sink) noexcept {
  const std::uint32_t length = ip.total_length;
  if (length > limits.inner_mtu) {
    if (!may_be_fragmented(ip, length, limits)) return Reason::too_big;
    if (limits.too_long == TooLong::fragmented) {
      const std::optional<Ipv4> datagram = Ipv4::parse(ip.octets, length);
      return datagram ? fragment(*datagram, limits, sink) : Reason::malformed;
    }
  }
  std::uint8_t* out = sink.open(length);
  if (out == nullptr) return Reason::oversize;
  std::memcpy(out, ip.octets, length);
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
  // With DF set the identification need not be unique (RFC 6864 4.1; Linux sends 0), so such a packet gets one of ours. A fragment keeps the
  // one that it shares with others, whatever its DF says.
  const bool is_atomic = ip.has_dont_fragment() && !ip.is_fragment();
  const std::uint16_t identification = is_atomic ? next_identification_++ : ip.identification();

  for (std::uint32_t at = 0; at < payload_length; at += size) {
    const std::uint32_t part = std::min(size, payload_length - at);
    std::uint8_t* out = sink.open(header_length + part);
    if (out == nullptr) return Reason::oversize;
    std::memcpy(out, ip.data(), header_length);
    std::memcpy(out + header_length, ip.payload() + at, part);
    const bool has_more = at + part < payload_length || (field & Ipv4::more_fragments) != 0;
    const std::uint32_t offset = (field & Ipv4::offset_mask) + at / 8;
    store16(out + ipv4_at::total_length, static_cast<std::uint16_t>(header_length + part));
    store16(out + ipv4_at::identification, identification);
    store16(out + ipv4_at::fragment, static_cast<std::uint16_t>((has_more ? Ipv4::more_fragments : 0) | offset));
    if (offset != 0) blank_uncopied_options(out + ipv4_header_size, header_length - ipv4_header_size);
    write_header_checksum(out);
    sink.commit(header_length + part);
  }
  return Reason::delivered;
}

}  // namespace groupvpn
