// Rings of frames in memory that BPF programs fill (ring_program.hpp), as the engine sees them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "descriptor.hpp"
#include "mapping.hpp"
#include "ring_program.hpp"

namespace groupvpn {

// The memory of some rings; all of them rest at first, with a mark that is not 0. EngineError without the right to have it.
class RingMemory {
 public:
  // `mtu`: octets of the longest IP packet that a record must hold. A ring has `size` octets, a power of two, or more for very long packets.
  RingMemory(std::uint32_t rings, std::uint32_t mtu, std::uint32_t size, std::uint32_t mark = 1);

  [[nodiscard]] RingMaps maps() const noexcept { return {controls_, records_, size_}; }
  [[nodiscard]] std::uint32_t size() const noexcept { return size_; }
  [[nodiscard]] std::uint32_t longest_frame() const noexcept { return record_size_ - RingLayout::frame_offset; }
  [[nodiscard]] std::uint32_t longest_packet() const noexcept { return record_size_ - RingLayout::ip_offset; }
  [[nodiscard]] std::uint8_t* control(std::uint32_t ring) const noexcept { return controls_memory_.octets() + ring * RingLayout::control_size; }
  [[nodiscard]] std::uint8_t* records(std::uint32_t ring) const noexcept { return records_memory_.octets() + std::size_t{ring} * (size_ + record_size_); }

 private:
  std::uint32_t record_size_;  // of the largest one
  std::uint32_t size_;
  Descriptor controls_, records_;
  Mapping controls_memory_, records_memory_;
};

// One ring, for one thread. Frames wait in the order in which they were put there. While the ring rests a program wakes the thread, or lets frames go on instead; it may
// also have it rest by itself.
class SharedRing {
 public:
  struct Record {
    std::uint8_t* frame;
    std::uint32_t length;  // of the frame; a program may say more in the upper half
    RingLayout::State state;
  };

  SharedRing(const RingMemory& memory, std::uint32_t number) noexcept
      : control_(memory.control(number)), records_(memory.records(number)), mask_(memory.size() - 1) {}

  // A program may tell packets by `mark`, which is not 0, that came to a ring that rests since it rose so.
  void rise(std::uint32_t mark = 1) noexcept {
    word<std::uint32_t>(control_ + RingLayout::mark).store(mark, std::memory_order_relaxed);
    word<std::uint32_t>(control_ + RingLayout::resting).store(0, std::memory_order_release);
  }
  [[nodiscard]] bool is_resting() const noexcept { return word<std::uint32_t>(control_ + RingLayout::resting).load(std::memory_order_relaxed) != 0; }
  // Rests. False if frames wait, or are being written, that came before: who called looks at them then, and lets it rest again.
  [[nodiscard]] bool rest() noexcept;

  // Tells of no records but those that are claimed by now, until it may go on.
  void stop_here() noexcept {
    end_ = word<std::uint32_t>(control_ + RingLayout::producer).load(std::memory_order_acquire);
    has_end_ = true;
  }
  void go_on() noexcept { has_end_ = false; }

  // Whether a record is there that was not taken; that record, which lies there until it is given back; and giving back what was taken.
  [[nodiscard]] bool has() const noexcept;
  [[nodiscard]] Record take() noexcept;
  void release() noexcept;
  // When nothing fills it any more: throws away what waits, and returns how many frames that were.
  std::uint64_t discard() noexcept;

  // Frames that found the ring full. Any thread.
  [[nodiscard]] std::uint64_t overruns() const noexcept { return word<std::uint64_t>(control_ + RingLayout::overruns).load(std::memory_order_relaxed); }
  // WakeUps that a TAP dropped. Any thread.
  [[nodiscard]] std::uint64_t lost_wake_ups() const noexcept {
    return word<std::uint64_t>(control_ + RingLayout::lost_wake_ups).load(std::memory_order_relaxed);
  }

 private:
  template <typename Word>
  static std::atomic_ref<Word> word(std::uint8_t* octets) noexcept {
    return std::atomic_ref(*reinterpret_cast<Word*>(octets));
  }

  std::uint8_t* control_;
  std::uint8_t* records_;
  std::uint32_t mask_;
  std::uint32_t released_ = 0, next_ = 0, end_ = 0;  // positions
  bool has_end_ = false;
};

}  // namespace groupvpn
