// A replay window for each sender of a group SA, told apart by what its explicit IV begins with (RFC 6054 3; `Sa::sender_of`).
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>

#include "reason.hpp"
#include "replay.hpp"

namespace groupvpn {

// Sequence numbers of two senders overlap, so each has a window of its own, made by the first packet of the sender that verifies: who
// does not hold the keys makes none. An SA without Sender-IDs in its packets has one sender, number 0. Size 0 accepts everything.
//
// A sender that finds the table full is refused: to forget another one instead would let the packets of that one be replayed.
class SenderWindows {
 public:
  static constexpr std::size_t maximum_senders = 16384;

  explicit SenderWindows(std::uint32_t size = 0) : size_(size) {}

  [[nodiscard]] bool is_disabled() const noexcept { return size_ == 0; }
  [[nodiscard]] std::size_t senders() const noexcept { return windows_.size(); }

  // Gives every window another size; see ReplayWindow::resized. Not for size 0.
  void resize(std::uint32_t size) {
    if (size == size_) return;
    size_ = size;
    for (auto& [sender, window] : windows_) window = window.resized(size);
  }

  // The whole number of a packet that carries its lower half; `low` itself of a sender that is not known yet.
  [[nodiscard]] std::uint64_t extend(std::uint32_t sender, std::uint32_t low) noexcept {
    const ReplayWindow* window = find(sender);
    return window == nullptr ? low : window->extend(low);
  }

  // Whether a packet may be new. Changes nothing but the memory of who was looked for: neither number is authenticated yet.
  [[nodiscard]] bool is_acceptable(std::uint32_t sender, std::uint64_t sequence) noexcept {
    const ReplayWindow* window = find(sender);
    return window == nullptr ? sequence != 0 : window->is_acceptable(sequence);
  }

  // Marks an authenticated packet as seen: delivered, replayed or too_many_senders.
  Reason accept(std::uint32_t sender, std::uint64_t sequence) {
    ReplayWindow* window = find(sender);
    if (window == nullptr) {
      if (sequence == 0) return Reason::replayed;
      if (windows_.size() == maximum_senders) return Reason::too_many_senders;
      window = &windows_.try_emplace(sender, size_).first->second;
    }
    return window->accept(sequence) ? Reason::delivered : Reason::replayed;
  }

 private:
  // Packets of one sender come in runs, so the last one is tried first. Elements of the map stay where they are.
  ReplayWindow* find(std::uint32_t sender) noexcept {
    if (latest_ != nullptr && latest_sender_ == sender) return latest_;
    const auto found = windows_.find(sender);
    if (found == windows_.end()) return nullptr;
    latest_sender_ = sender;
    return latest_ = &found->second;
  }

  std::uint32_t size_;
  std::unordered_map<std::uint32_t, ReplayWindow> windows_;
  ReplayWindow* latest_ = nullptr;
  std::uint32_t latest_sender_ = 0;
};

}  // namespace groupvpn
