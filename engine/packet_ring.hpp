// The way in by a packet ring (TPACKET_V2): the kernel copies ESP frames into memory that we share, before its own receive path looks at
// them, and no system call is needed for a frame. They are decrypted where they lie. For kernels that do not have what `BpfRing` wants.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
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
  static constexpr std::uint32_t frame_count = 4096;

  // `count` rings that share what comes: each pair of addresses has one of them. `mtu` is the IP MTU of the interface. EngineError without the
  // right to receive.
  static std::vector<std::unique_ptr<FrameRing>> make(const Device& device, const MacAddress& token, std::uint32_t mtu, std::uint32_t count);

  PacketRing(const Device& device, const MacAddress& token, std::uint32_t mtu);

  [[nodiscard]] std::uint32_t longest_packet() const noexcept override { return longest_packet_; }
  [[nodiscard]] bool leaves_copies() const noexcept override { return true; }
  void set_spis(std::span<const std::uint32_t> spis) override;
  [[nodiscard]] std::uint64_t overruns() const noexcept override;

  [[nodiscard]] int descriptor() const noexcept override { return socket_.number(); }
  int take_error() noexcept override;  // ENETDOWN: frames come again when the interface is up

  [[nodiscard]] bool has(std::uint32_t ahead) const noexcept override;
  [[nodiscard]] std::optional<Frame> frame(std::uint32_t ahead) const noexcept override;
  void release(std::uint32_t count) noexcept override;

 private:
  // All of a group get a part of what comes. The first of them asks the kernel for a `group` that nobody has.
  void join(std::uint16_t& group, bool is_first);
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
