// The way out by a packet socket: one system call for a burst, past the queueing discipline, but through the nftables egress hook.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstdint>

#include "descriptor.hpp"
#include "device.hpp"
#include "slots.hpp"
#include "transmitter.hpp"

namespace groupvpn {

// How long messages wait for room in a socket: `Transmitter::patience` until something is taken again, in however many bursts, and a few times that for all of one
// burst. Whoever has none left tries each message once. So an interface that takes nothing holds others back only once.
class Patience {
 public:
  // A burst begins.
  void begin() noexcept { all_ = 0; }
  // Waits a little; false if it has none left.
  bool wait(int socket) noexcept;
  void something_was_taken() noexcept { idle_ = 0; }

 private:
  int idle_ = 0, all_ = 0;  // milliseconds
};

// Sends messages in bursts and returns how many from the start were taken; fewer than all means that the next one was refused.
std::size_t send_messages(int socket, std::span<mmsghdr> messages, Patience& patience) noexcept;

class PacketTransmitter final : public Transmitter {
 public:
  // `mark` is the SO_MARK of every frame: nftables egress lets it pass. EngineError without the right to send.
  PacketTransmitter(const Device& device, std::uint32_t mark, std::size_t slot_size);

  [[nodiscard]] std::uint8_t* slot(std::size_t index) noexcept override { return slots_.slot(index); }
  [[nodiscard]] std::size_t slot_size() const noexcept override { return slots_.size(); }
  bool send(std::span<OutgoingFrame> frames) noexcept override;

 private:
  Descriptor socket_;
  Slots slots_;
  Patience patience_;
  std::array<mmsghdr, burst_size> messages_{};
  std::array<iovec, burst_size> vectors_{};
};

// What stands before a frame that is given to a packet socket.
enum class FrameHeader : bool { none, virtio };

// A packet socket that only sends, past the queueing discipline. EngineError without the right to.
Descriptor open_packet_socket(const Device& device, std::uint32_t mark, FrameHeader header = FrameHeader::none);

}  // namespace groupvpn
