// What every way out to the wire offers: buffers in which frames are built, and a burst of them sent with one call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace groupvpn {

// A frame that was built in buffer `slot` of the transmitter: link header first.
struct OutgoingFrame {
  std::uint8_t* data;
  std::uint32_t length;
  std::uint16_t slot;
  std::uint16_t link_size;  // octets of its link header
  bool is_sent = false;
};

class Transmitter {
 public:
  static constexpr std::size_t burst_size = 128;
  static constexpr std::size_t latest_begin = 255;  // of a frame in its buffer
  static constexpr int patience = 100;  // milliseconds that a burst waits for an interface that takes nothing

  Transmitter() = default;
  Transmitter(const Transmitter&) = delete;
  Transmitter& operator=(const Transmitter&) = delete;
  virtual ~Transmitter() = default;

  // The buffer of packet `index` of the burst, below `burst_size`: `slot_size` octets, ours until the frame is sent. Null while the interface
  // has them all.
  [[nodiscard]] virtual std::uint8_t* slot(std::size_t index) noexcept = 0;
  [[nodiscard]] virtual std::size_t slot_size() const noexcept = 0;

  // Sends the frames in their order, which is that of their slots, and marks those that the interface took. Waits up to `patience` for one that is busy. False if this
  // transmitter is of no use any more; none of the frames that are not marked will then leave.
  virtual bool send(std::span<OutgoingFrame> frames) noexcept = 0;
};

}  // namespace groupvpn
