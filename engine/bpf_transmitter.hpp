// The way out by a BPF program that the engine runs: frames are built in memory that it shares with the program, and one call has the program make packets of
// a whole burst. They pass the egress hooks and the queueing discipline of the interface, as forwarded packets do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "descriptor.hpp"
#include "device.hpp"
#include "mapping.hpp"
#include "transmitter.hpp"

namespace groupvpn {

// With every other way out the kernel deals with a frame to its end, on a virtual link through the stack of whoever is at the other end, before it looks at the
// next one. Here the whole burst is with the interface first, and then each stage of the kernel has many packets in a row.
class BpfTransmitter final : public Transmitter {
 public:
  // `mark` is that of each packet, for the egress hooks. EngineError says what was missing.
  BpfTransmitter(const Device& device, std::uint32_t mark, std::size_t slot_size);

  [[nodiscard]] std::uint8_t* slot(std::size_t index) noexcept override { return reinterpret_cast<std::uint8_t*>(&entry(index)) + entry_head; }
  [[nodiscard]] std::size_t slot_size() const noexcept override { return slot_size_; }
  bool send(std::span<OutgoingFrame> frames) noexcept override;

 private:
  // What the program is told of a slot, and what it answers; the slot comes behind it. In the entry behind those of the slots, `length` and `begin` are the first
  // slot that it shall look at and the one before which it ends.
  struct Entry {
    std::uint32_t length;    // of the frame; 0: there is none
    std::uint32_t begin;     // of the frame in the entry
    std::uint32_t priority;  // of the packet, as queueing disciplines know it
    std::int32_t result;     // 0: the interface has it
  };
  static constexpr std::size_t entry_head = 64;

  [[nodiscard]] Entry& entry(std::size_t index) noexcept { return *reinterpret_cast<Entry*>(memory_.octets() + index * entry_size_); }
  bool send_alike(std::span<OutgoingFrame> frames) noexcept;

  std::size_t slot_size_, entry_size_;
  std::uint64_t namespace_;  // the one in which the number of the interface is its number
  Descriptor map_;
  Mapping memory_;
  Descriptor itself_;  // a map with nothing but the program, by which it begins anew
  Descriptor program_;
  bool is_checked_ = false;
};

}  // namespace groupvpn
