// A replay window for each sender of a group SA, told apart by what its explicit IV begins with (RFC 6054 3; `Sa::sender_of`).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "reason.hpp"
#include "replay.hpp"
#include "sender_map.hpp"

namespace groupvpn {

// Sequence numbers of two senders overlap, so each has a window of its own, made by the first packet of the sender that verifies: who
// does not hold the keys makes none. An SA without Sender-IDs in its packets has one sender, number 0. Size 0 accepts everything.
//
// A sender that finds the table full is refused: to forget another one instead would let the packets of that one be replayed.
class SenderWindows {
 public:
  explicit SenderWindows(std::uint32_t size = 0) : size_(size) {}

  [[nodiscard]] std::size_t senders() const noexcept { return windows_.size(); }
  [[nodiscard]] std::size_t octets() const noexcept { return windows_.size() * SenderBudget::octets_for(size_); }

  // Gives every window this size, or the one that `keep_at_least` has asked for if that is larger; see ReplayWindow::resized. Not for size 0.
  // Larger windows shrink at once. Smaller ones grow with their next packet, for all senders wait while somebody goes through all windows; until
  // then they refuse no more than they would if they had grown.
  void resize(std::uint32_t size) {
    size = std::max(size, least_);
    if (size < size_) {
      windows_.for_each([size](ReplayWindow& window) {
        if (window.size() > size) window = window.resized(size);
      });
    }
    size_ = size;  // once none is larger: there may be no memory
  }
  void keep_at_least(std::uint32_t size) {
    least_ = std::max(least_, size);
    if (size_ != 0) resize(size_);
  }

  // The whole number of a packet that carries its lower half; `low` itself of a sender that is not known yet.
  [[nodiscard]] std::uint64_t extend(std::uint32_t sender, std::uint32_t low) noexcept {
    const ReplayWindow* window = windows_.find(sender);
    return window == nullptr ? low : window->extend(low, size_);
  }

  // Whether a packet may be new. Changes nothing but the memory of who was looked for: neither number is authenticated yet.
  [[nodiscard]] bool is_acceptable(std::uint32_t sender, std::uint64_t sequence) noexcept {
    const ReplayWindow* window = windows_.find(sender);
    return window == nullptr ? sequence != 0 : window->is_acceptable(sequence);
  }

  // Marks an authenticated packet as seen: delivered, replayed or too_many_senders.
  Reason accept(std::uint32_t sender, std::uint64_t sequence) {
    ReplayWindow* window = windows_.find(sender);
    if (window == nullptr) {
      if (sequence == 0) return Reason::replayed;
      if (windows_.size() >= SenderBudget::senders(size_)) return Reason::too_many_senders;
      window = windows_.add(sender, size_);
    }
    window->widen(size_);
    return window->accept(sequence) ? Reason::delivered : Reason::replayed;
  }

 private:
  std::uint32_t size_;
  std::uint32_t least_ = 0;
  SenderMap<ReplayWindow> windows_;
};

}  // namespace groupvpn
