// The way out for ESP in UDP: a packet socket that takes super-frames, which an interface cuts itself or the kernel just before it.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <span>

#include "descriptor.hpp"
#include "device.hpp"
#include "gather.hpp"
#include "packet_transmitter.hpp"

namespace groupvpn {

class SuperWire {
 public:
  // `mark` is the SO_MARK of every frame. `gathers`: whether the kernel knows UDP super-packets (Linux 6.2). EngineError without the right
  // to send.
  SuperWire(const Device& device, std::uint32_t mark, bool gathers)
      : socket_(open_packet_socket(device, mark, FrameHeader::virtio)), gathers_(gathers) {}

  // Sends at most `Gatherer::maximum_burst` finished packets of ESP in UDP, each with its link header before it. What the kernel did not take
  // gets Reason::send_failed. Returns how many of the others left behind another one in its frame.
  std::size_t send(std::span<const Outgoing> burst) noexcept;

 private:
  static constexpr std::size_t virtio_header_size = 10;

  void build(std::span<const Outgoing> burst, std::span<const Gathered> frames) noexcept;

  Descriptor socket_;
  Patience patience_;
  bool gathers_;
  Gatherer gatherer_;
  std::array<std::array<std::uint8_t, virtio_header_size>, Gatherer::maximum_burst> headers_{};
  std::array<iovec, 2 * Gatherer::maximum_burst> parts_{};  // of each frame: virtio header, first packet, what the others have behind their headers
  std::array<mmsghdr, Gatherer::maximum_burst> messages_{};
};

}  // namespace groupvpn
