// The way in by a packet ring (TPACKET_V2): the kernel copies ESP frames into memory that we share, before its own receive path looks at
// them, and no system call is needed for a frame. They are decrypted where they lie. For kernels that do not have what `BpfRing` wants.
#pragma once

#include <linux/filter.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "descriptor.hpp"
#include "device.hpp"
#include "frame_ring.hpp"
#include "mapping.hpp"

namespace groupvpn {

class PacketRing final : public FrameRing {
 public:
  static constexpr std::uint32_t frame_count = 4096, block_size = 1 << 16;

  // `mtu` is the IP MTU of the interface. EngineError without the right to receive.
  PacketRing(const Device& device, const MacAddress& token, std::uint32_t mtu);

  [[nodiscard]] std::uint32_t longest_packet() const noexcept override { return longest_packet_; }
  [[nodiscard]] bool leaves_copies() const noexcept override { return true; }
  void set_spis(std::span<const TakenSpi> spis) override;
  [[nodiscard]] std::uint64_t overruns() const noexcept override;

  [[nodiscard]] int descriptor() const noexcept override { return socket_.number(); }
  int take_error() noexcept override;  // ENETDOWN: frames come again when the interface is up

  void stop_here() noexcept override;
  void go_on() noexcept override { end_ = no_end; }
  [[nodiscard]] bool has() const noexcept override;
  [[nodiscard]] Frame take() noexcept override;
  void release() noexcept override;
  std::uint64_t discard() noexcept override;

 private:
  [[nodiscard]] std::uint32_t slots() const noexcept { return block_count_ * (block_size / frame_size_); }
  [[nodiscard]] std::uint32_t index(std::uint32_t ahead) const noexcept { return (next_ + ahead) % slots(); }
  [[nodiscard]] std::uint8_t* at(std::uint32_t ahead) const noexcept;
  [[nodiscard]] bool is_filled(std::uint32_t ahead) const noexcept;
  // Whether the kernel has room for the filter. EngineError if it refuses it for another reason.
  bool attach(std::vector<sock_filter> program) const;

  MacAddress token_;
  std::uint32_t longest_packet_;
  std::uint32_t frame_size_;
  std::uint32_t block_count_;
  Descriptor socket_;
  Mapping memory_;
  std::uint32_t next_ = 0;   // that was not given back
  std::uint32_t taken_ = 0;  // from there
  static constexpr std::uint32_t no_end = ~std::uint32_t{0};
  std::uint32_t end_ = no_end;  // slot that is not to be looked at
  mutable std::mutex statistics_mutex_;
  mutable std::uint64_t overruns_ = 0;
};

}  // namespace groupvpn
