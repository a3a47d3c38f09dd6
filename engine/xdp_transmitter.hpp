// The way out by AF_XDP: frames are built in memory that the kernel shares (UMEM), and one call sends a burst of them. No XDP program is
// needed to send. It passes neither the queueing discipline nor the nftables egress hook.
#pragma once

#include <linux/if_xdp.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "descriptor.hpp"
#include "device.hpp"
#include "mapping.hpp"
#include "transmitter.hpp"

namespace groupvpn {

class XdpTransmitter final : public Transmitter {
 public:
  // The kernel lets go of a queue some milliseconds after its socket was closed. `is_patient` waits for that. EngineError says what was
  // missing; EngineBusy that another socket has the queue.
  XdpTransmitter(const Device& device, std::uint32_t queue, std::size_t slot_size, bool is_patient);

  [[nodiscard]] std::uint8_t* slot(std::size_t index) noexcept override;
  [[nodiscard]] std::size_t slot_size() const noexcept override { return chunk_size_ - largest_shift; }
  bool send(std::span<OutgoingFrame> frames) noexcept override;

 private:
  static constexpr std::uint32_t chunk_count = 1024;
  static constexpr std::uint32_t ring_size = 256;  // of a burst; the kernel has taken the last one before the next begins
  static_assert(ring_size >= burst_size);
  static constexpr std::uint16_t none = 0xffff;
  static constexpr std::uint32_t largest_shift = 5 * 64;

  // One ring that we share with the kernel. One side moves the producer, the other the consumer (Documentation/networking/af_xdp.rst).
  template <typename Entry>
  struct Ring {
    Mapping memory;
    std::atomic<std::uint32_t>* producer = nullptr;
    std::atomic<std::uint32_t>* consumer = nullptr;
    Entry* entries = nullptr;

    void map(int socket, const xdp_ring_offset& offsets, std::uint32_t size, std::uint64_t page);
  };

  void make_rings();
  void bind_to(const Device& device, std::uint32_t queue, bool is_patient) const;
  void reap() noexcept;
  [[nodiscard]] std::uint32_t push(std::span<OutgoingFrame> frames) noexcept;
  bool kick(std::span<OutgoingFrame*> pushed, std::uint32_t first) noexcept;

  std::uint32_t chunk_size_;
  Mapping umem_;       // before the socket: it must outlive it
  Descriptor socket_;
  Ring<xdp_desc> transmit_;
  Ring<std::uint64_t> completion_;
  std::vector<std::uint16_t> free_;                      // chunks that nobody uses; the last one was used last
  std::array<std::uint16_t, burst_size> held_;           // the chunk behind each slot
  std::array<OutgoingFrame*, burst_size> pushed_;
};

}  // namespace groupvpn
