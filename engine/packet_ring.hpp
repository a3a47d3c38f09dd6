// The way in by a packet ring (TPACKET_V2): the kernel copies ESP frames into memory that we share, before its own receive path looks at
// them, and no system call is needed for a frame. They are decrypted where they lie.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>

#include "descriptor.hpp"
#include "device.hpp"
#include "mapping.hpp"

namespace groupvpn {

class PacketRing {
 public:
  static constexpr std::uint32_t frame_count = 4096;

  // A frame that lies in the ring. `headroom` octets before it may be overwritten.
  struct Frame {
    std::uint8_t* data;
    std::uint32_t length;
    std::uint32_t headroom;
    bool is_whole;  // false: the kernel did not copy all of it
  };

  // Takes nothing until `set_spis`. `mtu` is the IP MTU of the interface. EngineError without the right to receive.
  PacketRing(const Device& device, const MacAddress& token, std::uint32_t mtu);

  // Octets of the longest IP packet that it takes.
  [[nodiscard]] std::uint32_t longest_packet() const noexcept { return longest_packet_; }

  // Takes ESP with these SPIs from now on; sorted. Any thread, one at a time.
  void set_spis(std::span<const std::uint32_t> spis) const;

  // For poll: readable while frames wait.
  [[nodiscard]] int descriptor() const noexcept { return socket_.number(); }
  // Takes note of an error that poll told of; returns it. ENETDOWN: frames come again when the interface is up.
  int take_error() const noexcept;

  // One thread: whether frame `ahead` of those not released has come; that frame; and giving back the first `count`.
  [[nodiscard]] bool has(std::uint32_t ahead) const noexcept;
  [[nodiscard]] Frame frame(std::uint32_t ahead) const noexcept;
  void release(std::uint32_t count) noexcept;

  // Frames that found the ring full. Any thread.
  [[nodiscard]] std::uint64_t overruns() const noexcept;

 private:
  [[nodiscard]] std::uint8_t* at(std::uint32_t ahead) const noexcept;

  MacAddress token_;
  std::uint32_t longest_packet_;
  std::uint32_t frame_size_;
  std::uint32_t block_count_;
  Descriptor socket_;
  Mapping memory_;
  std::uint32_t next_ = 0;
  mutable std::mutex statistics_mutex_;
  mutable std::uint64_t overruns_ = 0;
};

}  // namespace groupvpn
