// From a frame of an outbound TAP to IPv4 packets that fit: super-packets are cut, checksums completed, large packets fragmented.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "offload.hpp"
#include "packet.hpp"

namespace groupvpn {

// Where finished packets go. `open` gives room for `length` octets of IPv4, or null if there cannot be; `commit` hands over what was
// written there. A packet that was opened and not committed is forgotten.
class PacketSink {
 public:
  virtual std::uint8_t* open(std::uint32_t length) noexcept = 0;
  virtual void commit(std::uint32_t length) noexcept = 0;

 protected:
  ~PacketSink() = default;
};

struct CutLimits {
  std::uint32_t inner_mtu;   // octets of the longest packet that fits the wire after encapsulation
  bool clear_df;             // DF of the packet is not to be honoured
};

// Writes the packets of one frame into a sink. `ip` is the IPv4 header inside the frame, `link_size` octets behind its start.
//
// TCP super-packets are cut at the segment size of the kernel, or smaller so that each segment fits, whatever DF says: the stream does not
// care where it is cut. UDP super-packets are cut at exactly their segment size; those datagrams, and every other packet, that do not fit
// are fragmented into equal parts before encryption, so that the receiver of the ESP packet need not put it together; if DF forbids
// that the frame is refused with Reason::too_big. Other reasons: malformed, oversize.
class Cutter {
 public:
  explicit Cutter(std::uint16_t first_identification) noexcept : next_identification_(first_identification) {}

  Reason cut(std::uint8_t* frame, std::size_t link_size, const Ipv4& ip, const Offload& offload, const CutLimits& limits,
             PacketSink& sink) noexcept;

 private:
  Reason cut_tcp(const Ipv4& ip, const Offload& offload, const CutLimits& limits, PacketSink& sink) noexcept;
  Reason cut_udp(const Ipv4& ip, const Offload& offload, const CutLimits& limits, PacketSink& sink) noexcept;
  // Passes on a packet that is complete in itself: as it is if it fits, else in fragments.
  Reason pass(const Ipv4& ip, const CutLimits& limits, PacketSink& sink) noexcept;
  Reason fragment(const Ipv4& ip, const CutLimits& limits, PacketSink& sink) noexcept;

  std::uint16_t next_identification_;
};

}  // namespace groupvpn
