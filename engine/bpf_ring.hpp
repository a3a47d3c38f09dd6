// The way in by a BPF program at the ingress of the interface: it copies ESP of our SAs into memory that we share, and that packet's way through
// the kernel ends there. All other packets go on, some nanoseconds later.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "descriptor.hpp"
#include "device.hpp"
#include "esp_program.hpp"
#include "frame_ring.hpp"
#include "mapping.hpp"

namespace groupvpn {

// The program of an interface and what it shares with us, as long as a ring of it is there.
class BpfIngress {
 public:
  static constexpr std::uint32_t maximum_spis = 1 << 16;

  // See BpfRing::make.
  BpfIngress(const Device& device, const MacAddress& token, std::uint32_t mtu, std::span<const int> tap_queues);

  [[nodiscard]] std::uint32_t slot_size() const noexcept { return slot_size_; }
  [[nodiscard]] std::uint8_t* control(std::uint32_t ring) const noexcept { return controls_memory_.octets() + ring * EspProgramLayout::control_size; }
  [[nodiscard]] std::uint8_t* slots(std::uint32_t ring) const noexcept {
    return slots_memory_.octets() + std::size_t{ring} * EspProgramLayout::slot_count * slot_size_;
  }
  void set_spis(std::span<const TakenSpi> spis);

 private:
  std::uint32_t slot_size_;
  Descriptor controls_, slots_, spis_;
  Mapping controls_memory_, slots_memory_;
  Descriptor program_, link_;
  std::vector<TakenSpi> taken_spis_;
};

// The program fills a ring only while our thread looks at it. While it rests everything goes on to the rules, which lead ESP to the TAP; the first
// packet there wakes the thread. So no descriptor of the ring is needed, and a quiet interface costs nobody a spinning thread.
class BpfRing final : public FrameRing {
 public:
  static constexpr std::uint32_t slot_count = EspProgramLayout::slot_count;

  // A ring for each queue of the TAP; what `Spread` keeps together comes by one of them, and by that queue. `mtu` is the IP MTU of the interface. EngineError
  // without the right to it, or before Linux 6.6.
  static std::vector<std::unique_ptr<FrameRing>> make(const Device& device, const MacAddress& token, std::uint32_t mtu, std::span<const int> tap_queues);

  BpfRing(std::shared_ptr<BpfIngress> ingress, std::uint32_t number) noexcept
      : ingress_(std::move(ingress)), control_(ingress_->control(number)), slots_(ingress_->slots(number)) {}

  [[nodiscard]] std::uint32_t longest_packet() const noexcept override { return ingress_->slot_size() - EspProgramLayout::ip_offset; }
  [[nodiscard]] bool leaves_copies() const noexcept override { return false; }
  void set_spis(std::span<const TakenSpi> spis) override { ingress_->set_spis(spis); }
  [[nodiscard]] std::uint64_t overruns() const noexcept override;

  [[nodiscard]] int descriptor() const noexcept override { return -1; }
  void rise() noexcept override;
  [[nodiscard]] bool rest() noexcept override;

  [[nodiscard]] bool has(std::uint32_t ahead) const noexcept override;
  [[nodiscard]] std::optional<Frame> frame(std::uint32_t ahead) const noexcept override;
  void release(std::uint32_t count) noexcept override;

 private:
  [[nodiscard]] std::uint8_t* slot(std::uint32_t ahead) const noexcept {
    return slots_ + std::size_t{(next_ + ahead) & (slot_count - 1)} * ingress_->slot_size();
  }
  template <typename Word>
  static std::atomic_ref<Word> word(std::uint8_t* octets) noexcept {
    return std::atomic_ref(*reinterpret_cast<Word*>(octets));
  }

  std::shared_ptr<BpfIngress> ingress_;
  std::uint8_t* control_;
  std::uint8_t* slots_;
  std::uint32_t next_ = 0;
};

}  // namespace groupvpn
