// The way out: a packet socket on the WAN interface that takes whole frames in bursts.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "descriptor.hpp"

namespace groupvpn {

using MacAddress = std::array<std::uint8_t, 6>;

// What stands before a frame that is given to a wire.
enum class FrameHeader : bool { none, virtio };

class Wire {
 public:
  // `mark` is the SO_MARK of every frame: nftables egress lets it pass. EngineError if there is no such Ethernet device, or no right to send.
  Wire(const std::string& device, std::uint32_t mark, FrameHeader header = FrameHeader::none);

  // Sends a burst and returns how many frames from its start were taken; fewer than all means that the next one was refused.
  // Waits while the socket's buffer is full, at most `patience` milliseconds.
  std::size_t send(std::span<mmsghdr> frames) noexcept;

 private:
  static constexpr int patience = 100;
  Descriptor socket_;
};

}  // namespace groupvpn
