// The way in by a BPF program at the ingress of the interface: it copies ESP of our SAs into memory that we share, and that packet's way through
// the kernel ends there. All other packets go on, some nanoseconds later.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "descriptor.hpp"
#include "device.hpp"
#include "doorbell.hpp"
#include "frame_ring.hpp"
#include "shared_ring.hpp"

namespace groupvpn {

// The program of an interface and what it shares with us, as long as a ring of it is there.
class BpfIngress {
 public:
  static constexpr std::uint32_t maximum_spis = 1 << 16;

  // See BpfRing::make.
  BpfIngress(const Device& device, const MacAddress& token, std::uint32_t mtu, std::span<const int> tap_queues);

  [[nodiscard]] const RingMemory& memory() const noexcept { return memory_; }
  [[nodiscard]] Doorbell& bell(std::uint32_t ring) noexcept { return bells_[ring]; }
  void set_spis(std::span<const TakenSpi> spis);
  [[nodiscard]] std::uint32_t program_number() const noexcept { return program_number_; }
  // The kernel goes on with all packets from now on.
  void detach() noexcept { link_ = Descriptor(); }

 private:
  RingMemory memory_;
  std::vector<Doorbell> bells_;
  Descriptor spis_, program_, link_;
  std::uint32_t program_number_ = 0;
  std::vector<TakenSpi> taken_spis_;
};

// All that the program takes is in the ring, and the first packet that comes to a ring that rests wakes the thread: by a WakeUp at its queue of the TAP, or by a doorbell.
class BpfRing final : public FrameRing {
 public:
  // A ring for each queue of the TAP; what `Spread` keeps together comes by one of them, and by that queue. A queue of -1: there is no TAP. `mtu` is the IP MTU of the
  // interface. EngineError without the right to it, or before Linux 6.6.
  static std::vector<std::unique_ptr<FrameRing>> make(const Device& device, const MacAddress& token, std::uint32_t mtu, std::span<const int> tap_queues);

  BpfRing(std::shared_ptr<BpfIngress> ingress, std::uint32_t number) noexcept
      : ingress_(std::move(ingress)), bell_(ingress_->bell(number)), ring_(ingress_->memory(), number) {}

  [[nodiscard]] std::uint32_t longest_packet() const noexcept override { return ingress_->memory().longest_packet(); }
  [[nodiscard]] bool leaves_copies() const noexcept override { return false; }
  [[nodiscard]] std::uint32_t program_number() const noexcept override { return ingress_->program_number(); }
  void set_spis(std::span<const TakenSpi> spis) override { ingress_->set_spis(spis); }
  [[nodiscard]] std::uint64_t overruns() const noexcept override { return ring_.overruns(); }
  [[nodiscard]] std::uint64_t lost_wake_ups() const noexcept override { return ring_.lost_wake_ups(); }

  [[nodiscard]] int descriptor() const noexcept override { return bell_.descriptor(); }
  void rise() noexcept override;
  [[nodiscard]] bool rest() noexcept override { return ring_.rest(); }
  [[nodiscard]] bool is_resting() const noexcept override { return ring_.is_resting(); }

  void stop_here() noexcept override { ring_.stop_here(); }
  void go_on() noexcept override { ring_.go_on(); }
  [[nodiscard]] bool has() const noexcept override { return ring_.has(); }
  [[nodiscard]] Frame take() noexcept override;
  void release() noexcept override { ring_.release(); }
  std::uint64_t discard() noexcept override {
    ingress_->detach();
    return ring_.discard();
  }

 private:
  std::shared_ptr<BpfIngress> ingress_;
  Doorbell& bell_;
  SharedRing ring_;
};

}  // namespace groupvpn
