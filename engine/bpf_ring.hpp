// The way in by a BPF program at the ingress of the interface: it copies ESP of our SAs into memory that we share, and that packet's way through
// the kernel ends there. All other packets go on, some nanoseconds later.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "bpf.hpp"
#include "descriptor.hpp"
#include "device.hpp"
#include "frame_ring.hpp"
#include "mapping.hpp"

namespace groupvpn {

// The program takes ESP (RFC 4303) over IPv4 without options, or over IPv6 without extension headers, that is
//
// - whole: no fragment, since one that is not the first has no SPI
// - in a frame that is not too long, not VLAN-tagged, not for another host and not from `token`
// - of one of the SPIs
//
// and only while our thread looks at the ring. While it rests everything goes on to the rules, which lead ESP to the TAP; the first packet
// there wakes the thread. So no descriptor of the ring is needed, and a quiet interface costs nobody a spinning thread.
class BpfRing final : public FrameRing {
 public:
  static constexpr std::uint32_t slot_count = 4096;
  static constexpr std::uint32_t maximum_spis = 1 << 16;

  // `mtu` is the IP MTU of the interface. EngineError without the right to it, or before Linux 6.6.
  BpfRing(const Device& device, const MacAddress& token, std::uint32_t mtu);

  [[nodiscard]] std::uint32_t longest_packet() const noexcept override { return longest_packet_; }
  [[nodiscard]] bool leaves_copies() const noexcept override { return false; }
  void set_spis(std::span<const std::uint32_t> spis) override;
  [[nodiscard]] std::uint64_t overruns() const noexcept override;

  [[nodiscard]] int descriptor() const noexcept override { return -1; }
  void rise() noexcept override;
  [[nodiscard]] bool rest() noexcept override;

  [[nodiscard]] bool has(std::uint32_t ahead) const noexcept override;
  [[nodiscard]] std::optional<Frame> frame(std::uint32_t ahead) const noexcept override;
  void release(std::uint32_t count) noexcept override;

 private:
  [[nodiscard]] std::vector<bpf_insn> program(const MacAddress& token) const;
  [[nodiscard]] std::uint8_t* slot(std::uint32_t ahead) const noexcept;
  template <typename Word>
  [[nodiscard]] std::atomic_ref<Word> shared(std::size_t offset) const noexcept {
    return std::atomic_ref(*reinterpret_cast<Word*>(control_memory_.octets() + offset));
  }

  std::uint32_t slot_size_;
  std::uint32_t longest_packet_;
  Descriptor control_, slots_, spis_;
  Mapping control_memory_, slots_memory_;
  Descriptor program_, link_;
  std::vector<std::uint32_t> taken_spis_;
  std::uint32_t next_ = 0;
};

}  // namespace groupvpn
