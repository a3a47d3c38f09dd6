// From frames to the wire: packets are cut, encapsulated and sent in bursts.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "cut.hpp"
#include "esp.hpp"
#include "leaving_order.hpp"
#include "offload.hpp"
#include "path_context.hpp"
#include "slots.hpp"
#include "super_wire.hpp"
#include "too_big_answer.hpp"
#include "wire.hpp"

namespace groupvpn {

// A frame as it came from the kernel, by a TAP or by the ring beside it.
struct TapFrame {
  std::uint8_t* data;
  std::size_t length;
  Offload offload;
};

// The packets that have been cut and have not left yet. They lie in buffers of the wire, are encapsulated there, and leave from there. A burst that is
// full leaves by itself; a packet that is to be fragmented after encryption leaves alone, behind all that came before it.
class OutboundBurst final : private PacketSink {
 public:
  // Counts in `counters`, which outlives it, everything but frames.
  OutboundBurst(const PathContext& context, WireParameters wire, SuperWire super_wire, PathCounters& counters);

  // Between two bursts: follows the MTU of the wire, and tries for a better way out.
  void look_after() noexcept;

  // Cuts a frame, in which checksums are completed, for `sa` to protect: it lives until `flush`, while the frame need not; or it is null. A sender whose
  // packet is too big is told.
  void add(const TapFrame& frame, Sa* sa);
  // Counts what goes no further, as one packet: a frame, or what is left of it.
  void refuse(Reason reason) noexcept;
  // Encapsulates and sends what is there.
  void flush() noexcept;

  [[nodiscard]] BackEnd back_end() const { return wire_.back_end(); }

 private:
  static constexpr std::size_t burst_size = Transmitter::burst_size;
  static_assert(burst_size <= Gatherer::maximum_burst);

  struct Link {
    std::array<std::uint8_t, LinkHeader::maximum_size> octets;
    std::size_t size;
  };

  Reason cut(const TapFrame& frame, Sa* sa);
  [[nodiscard]] CutLimits limits_for(const Sa& sa, const CutPacket& ip, const Offload& offload) const noexcept;
  void flush_large() noexcept;
  Reason send_in_parts(const Packet& packet) noexcept;
  void send(std::span<Packet> packets) noexcept;

  std::uint8_t* open(std::uint32_t length) noexcept override;
  void commit(std::uint32_t length) noexcept override;

  const std::atomic<std::uint32_t>& wire_mtu_;
  const std::atomic<bool>& splits_after_;
  PathCounters& counters_;
  std::uint32_t mtu_;  // of the wire, as it was looked after the last time
  Wire wire_;
  SuperWire super_wire_;
  TooBigAnswer too_big_answer_;
  Esp esp_;
  Cutter cutter_;
  Slots large_;  // one packet that is to be fragmented after encryption
  std::uint32_t next_identification_;

  // The burst.
  std::size_t count_ = 0;
  std::array<Packet, burst_size> packets_;
  std::array<Link, burst_size> links_;
  std::array<OutgoingFrame, burst_size> outgoing_;
  LeavingOrder order_;

  // The frame that is being cut, and the packet of it that is being written.
  Link current_link_{};
  Sa* current_sa_ = nullptr;
  std::uint32_t current_limit_ = 0;  // longer packets are split after encryption
  std::span<std::uint8_t> opened_;   // the buffer of the packet
  bool is_refused_ = false;          // the wire had none for it
};

}  // namespace groupvpn
