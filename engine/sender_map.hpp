// What is kept for each sender of a group SA.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <utility>

#include "replay.hpp"

namespace groupvpn {

// A table of senders, told apart by what their IVs begin with (`Sa::sender_of`), for one thread at a time. Values stay where they are.
template <typename Value>
class SenderMap {
 public:
  SenderMap() = default;
  SenderMap(const SenderMap&) = delete;  // one that is copied or moved would go on with what `latest_` points to
  SenderMap& operator=(const SenderMap&) = delete;

  [[nodiscard]] std::size_t size() const noexcept { return values_.size(); }

  // Packets of one sender come in runs, so the last one is tried first.
  [[nodiscard]] Value* find(std::uint32_t sender) noexcept {
    if (latest_ != nullptr && latest_sender_ == sender) return latest_;
    const auto found = values_.find(sender);
    if (found == values_.end()) return nullptr;
    latest_sender_ = sender;
    return latest_ = &found->second;
  }

  // Of a sender that is not there.
  template <typename... Arguments>
  Value* add(std::uint32_t sender, Arguments&&... arguments) {
    return &values_.try_emplace(sender, std::forward<Arguments>(arguments)...).first->second;
  }

  template <typename Change>
  void for_each(Change change) {
    for (auto& [sender, value] : values_) change(value);
  }

  // How many went.
  template <typename Condition>
  std::size_t erase_if(Condition condition) {
    latest_ = nullptr;
    return std::erase_if(values_, [&condition](const auto& item) { return condition(item.second); });
  }

 private:
  std::unordered_map<std::uint32_t, Value> values_;
  Value* latest_ = nullptr;
  std::uint32_t latest_sender_ = 0;
};

// How much is kept. A window is made by a packet that verified, so only members make one; but one of them may be broken or hostile.
struct SenderBudget {
  static constexpr std::size_t octets = std::size_t{128} << 20;  // of one SA
  static constexpr std::size_t most = 262'144;
  static constexpr std::size_t around = 176;  // of an entry beside its window: its place in the table, and what the memory of each piece costs

  [[nodiscard]] static constexpr std::size_t octets_for(std::uint32_t window) noexcept { return around + ReplayWindow::octets_for(window); }
  // All senders with Sender-IDs of 16 bits, whatever their window.
  [[nodiscard]] static constexpr std::size_t senders(std::uint32_t window) noexcept { return std::min(most, octets / octets_for(window)); }
};
static_assert(SenderBudget::senders(4096) >= std::size_t{1} << 16);

}  // namespace groupvpn
