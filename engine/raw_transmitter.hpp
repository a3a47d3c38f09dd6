// The way out by raw IP sockets, where the kernel offers neither of the others: it routes each packet itself, and the frame's own link header
// is not used. Packets pass the egress hooks, of tc and of nftables, with our mark.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstdint>

#include "descriptor.hpp"
#include "device.hpp"
#include "packet_transmitter.hpp"
#include "slots.hpp"
#include "transmitter.hpp"

namespace groupvpn {

class RawTransmitter final : public Transmitter {
 public:
  // EngineError without the right to send. IPv6 packets are refused where the kernel has no IPv6.
  RawTransmitter(const Device& device, std::uint32_t mark, std::size_t slot_size);

  [[nodiscard]] std::uint8_t* slot(std::size_t index) noexcept override { return slots_.slot(index); }
  [[nodiscard]] std::size_t slot_size() const noexcept override { return slots_.size(); }
  bool send(std::span<OutgoingFrame> frames) noexcept override;

 private:
  union Destination {
    sockaddr_in v4;
    sockaddr_in6 v6;
  };

  void send_run(std::span<OutgoingFrame> frames, int socket, bool is_v6) noexcept;

  Descriptor v4_, v6_;
  std::uint32_t index_;
  Slots slots_;
  Patience patience_;
  std::array<mmsghdr, burst_size> messages_{};
  std::array<iovec, burst_size> vectors_{};
  std::array<Destination, burst_size> destinations_{};
};

}  // namespace groupvpn
