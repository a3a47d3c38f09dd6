// What is kept for each sender of a group SA.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <utility>

#include "random.hpp"
#include "replay.hpp"

namespace groupvpn {

// A hash that nobody can foresee. Senders choose their numbers: a member could have many of them fall into one place of a table, and then anybody could have us walk
// through all of them, for every packet that need not even verify.
class SenderHash {
 public:
  SenderHash() noexcept { fill_at_random({reinterpret_cast<std::uint8_t*>(words_.data()), sizeof words_}); }
  std::size_t operator()(std::uint32_t sender) const noexcept {
    std::uint64_t mixed = (sender + words_[0]) * (words_[1] | 1);
    mixed = (mixed ^ mixed >> 32) * 0x9e3779b97f4a7c15ULL;
    return mixed >> 32;
  }

 private:
  std::array<std::uint64_t, 2> words_;
};

// A table of senders, told apart by what their IVs begin with (`Sa::sender_of`), for one thread at a time. Values stay where they are.
template <typename Value>
class SenderMap {
 public:
  SenderMap() = default;
  SenderMap(const SenderMap&) = delete;  // one that is copied or moved would go on with what `latest_` points to
  SenderMap& operator=(const SenderMap&) = delete;

  [[nodiscard]] std::size_t size() const noexcept { return values_.size(); }
  // The most senders through which a search walks.
  [[nodiscard]] std::size_t longest_walk() const noexcept {
    std::size_t longest = 0;
    for (std::size_t bucket = 0; bucket < values_.bucket_count(); ++bucket) longest = std::max(longest, values_.bucket_size(bucket));
    return longest;
  }

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
  std::unordered_map<std::uint32_t, Value, SenderHash> values_;
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
