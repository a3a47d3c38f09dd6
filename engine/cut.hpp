// From a frame of an outbound TAP to IP packets that fit: super-packets are cut, checksums completed, large packets fragmented.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "offload.hpp"
#include "packet.hpp"

namespace groupvpn {

// Where finished packets go. `open` gives room for a packet of `length` octets, or null if there cannot be; `commit` hands over what was
// written there. A packet that was opened and not committed is forgotten.
class PacketSink {
 public:
  virtual std::uint8_t* open(std::uint32_t length) noexcept = 0;
  virtual void commit(std::uint32_t length) noexcept = 0;

 protected:
  ~PacketSink() = default;
};

// A packet of either family, as far as it matters where it is cut.
struct CutPacket {
  std::uint8_t* octets;
  Family family;
  std::uint8_t protocol;       // of the transport
  bool is_fragment;
  std::uint32_t ip_length;     // octets before the transport header, extension headers included
  std::uint32_t outside;       // of them those that transport mode leaves outside: of IPv6 not the options for the destination alone
  std::uint32_t total_length;

  CutPacket(const Ipv4& ip) noexcept
      : octets(ip.data()), family(Family::ipv4), protocol(ip.protocol()), is_fragment(ip.is_fragment()), ip_length(ip.header_length()),
        outside(ip.header_length()), total_length(ip.total_length()) {}
  CutPacket(const Ipv6& ip, const Ipv6Chain& chain) noexcept
      : octets(ip.data()), family(Family::ipv6), protocol(chain.protocol), is_fragment(chain.fragment != 0), ip_length(chain.upper),
        outside(chain.unfragmentable), total_length(ip.total_length()) {}

  // None if a header reaches beyond the packet, or the packet beyond what is there.
  static std::optional<CutPacket> parse(std::uint8_t* octets, std::size_t available) noexcept;

  [[nodiscard]] std::uint8_t* transport() const noexcept { return octets + ip_length; }
  [[nodiscard]] std::uint32_t transport_length() const noexcept { return total_length - ip_length; }
};

// What becomes of a packet that does not fit, and that may be fragmented.
enum class TooLong : std::uint8_t {
  fragmented,   // before encryption
  split_later,  // passed on whole: it will be fragmented after encryption
  refused,
};

struct CutLimits {
  std::uint32_t inner_mtu;   // octets of the longest packet that fits the wire after encapsulation
  bool clear_df;             // DF of the packet is not to be honoured
  TooLong too_long = TooLong::fragmented;
};

// Writes the packets of one frame into a sink. `ip` is the IP header inside the frame, `link_size` octets behind its start.
//
// TCP super-packets are cut at the segment size of the kernel, or smaller so that each segment fits, whatever DF says: the stream does not
// care where it is cut. UDP super-packets are cut at exactly their segment size; those datagrams, and every other packet, that do not fit
// are fragmented into equal parts before encryption, so that the receiver of the ESP packet need not put it together, or passed on whole if
// the limits say so; if DF forbids fragments the frame is refused with Reason::too_big. An IPv6 packet that does not fit is refused too, as on the
// way only its source may fragment it (RFC 8200 4.5), but for one that its source need not make smaller (RFC 8200 5): that is passed on whole
// where the limits allow what is split later. Other reasons: malformed, oversize.
class Cutter {
 public:
  explicit Cutter(std::uint16_t first_identification) noexcept : next_identification_(first_identification) {}

  Reason cut(std::uint8_t* frame, std::size_t link_size, const CutPacket& ip, const Offload& offload, const CutLimits& limits,
             PacketSink& sink) noexcept;

 private:
  Reason cut_tcp(const CutPacket& ip, const Offload& offload, const CutLimits& limits, PacketSink& sink) noexcept;
  Reason cut_udp(const CutPacket& ip, const Offload& offload, const CutLimits& limits, PacketSink& sink) noexcept;
  // Passes on a packet that is complete in itself: as it is if it fits, else in fragments.
  Reason pass(const CutPacket& ip, const CutLimits& limits, PacketSink& sink) noexcept;
  Reason fragment(const Ipv4& ip, const CutLimits& limits, PacketSink& sink) noexcept;

  std::uint16_t next_identification_;
};

}  // namespace groupvpn
