#include "shared_ring.hpp"

#include <sched.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "error.hpp"

namespace groupvpn {
namespace {

using Layout = RingLayout;

constexpr std::uint32_t longest_in_ring = 1024, largest_ring = 16 << 20;

}  // namespace

RingMemory::RingMemory(std::uint32_t rings, std::uint32_t mtu, std::uint32_t size, std::uint32_t mark)
    : record_size_(Layout::size_for(ETH_HLEN + std::max(mtu, 1500U))),
      size_(std::clamp(std::bit_ceil(longest_in_ring * record_size_), size, largest_ring)),
      controls_(bpf::make_array("groupvpn_ctl", Layout::control_size, rings)),
      records_(bpf::make_array("groupvpn_ring", size_ + record_size_, rings)),
      controls_memory_(std::size_t{rings} * Layout::control_size, controls_.number(), 0),
      records_memory_(std::size_t{rings} * (size_ + record_size_), records_.number(), 0) {
  if (controls_memory_.octets() == nullptr || records_memory_.octets() == nullptr) throw EngineError(describe_error("BPF map", errno));
  for (std::uint32_t ring = 0; ring < rings; ++ring) {
    for (const auto word : {Layout::mark, Layout::resting}) std::atomic_ref(*reinterpret_cast<std::uint32_t*>(control(ring) + word)).store(mark);
  }
}

// Either the program sees that we rest when it has claimed a slot, or we see that it has claimed one.
bool SharedRing::rest() noexcept {
  const std::uint32_t mark = word<std::uint32_t>(control_ + Layout::mark).load(std::memory_order_relaxed);
  word<std::uint32_t>(control_ + Layout::resting).store(mark, std::memory_order_seq_cst);
  return word<std::uint32_t>(control_ + Layout::producer).load(std::memory_order_seq_cst) == next_;
}

bool SharedRing::has() const noexcept {
  if (has_end_ && next_ == end_) return false;
  return word<std::uint32_t>(records_ + (next_ & mask_) + Layout::state).load(std::memory_order_acquire) != Layout::unfilled;
}

SharedRing::Record SharedRing::take() noexcept {
  std::uint8_t* at = records_ + (next_ & mask_);
  Record record{at + Layout::frame_offset, 0, Layout::unfilled};
  std::uint32_t size;
  std::memcpy(&record.state, at + Layout::state, sizeof record.state);
  std::memcpy(&record.length, at + Layout::length, sizeof record.length);
  std::memcpy(&size, at + Layout::size, sizeof size);
  next_ += size;
  return record;
}

// The next record here may begin at any line of these.
void SharedRing::release() noexcept {
  for (; released_ != next_; released_ += Layout::alignment) {
    word<std::uint32_t>(records_ + (released_ & mask_) + Layout::state).store(Layout::unfilled, std::memory_order_relaxed);
  }
  word<std::uint32_t>(control_ + Layout::consumer).store(released_, std::memory_order_release);
}

std::uint64_t SharedRing::discard() noexcept {
  std::uint64_t found = 0;
  go_on();
  // A program that has claimed a place may be writing still: it takes less than a microsecond, unless its processor was taken away.
  for (int patience = 1000; patience > 0 && word<std::uint32_t>(control_ + Layout::producer).load(std::memory_order_acquire) != next_;) {
    if (!has()) {
      --patience;
      sched_yield();
      continue;
    }
    if (take().state != Layout::left) ++found;
    release();
  }
  return found;
}

}  // namespace groupvpn
