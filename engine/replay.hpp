// The sliding window that tells replayed sequence numbers (RFC 4303 3.4.3), as a ring of words that never shifts (RFC 6479).
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

namespace groupvpn {

// A window of `size` packets below the highest sequence number seen; size 0 accepts everything. Numbers have 64 bits, of which packets carry
// the lower 32; without extended sequence numbers the others are 0.
//
// One window serves one sender (RFC 4303 2.2); senders.hpp keeps one for each.
class ReplayWindow {
 public:
  explicit ReplayWindow(std::uint32_t size = 0) : size_(size), words_(size == 0 ? 0 : ring_words(size)) {}

  // Of memory that a window of a size takes.
  [[nodiscard]] static constexpr std::size_t octets_for(std::uint32_t size) noexcept { return size == 0 ? 0 : ring_words(size) * sizeof(std::uint64_t); }

  [[nodiscard]] std::uint32_t size() const noexcept { return size_; }
  [[nodiscard]] std::uint64_t highest() const noexcept { return highest_; }

  // Whether a packet with this number may be new. Changes nothing: the number is not authenticated yet.
  [[nodiscard]] bool is_acceptable(std::uint64_t sequence) const noexcept {
    if (size_ == 0) return true;
    if (sequence == 0) return false;  // a sender starts at 1 (RFC 4303 3.3.3)
    if (sequence > highest_) return true;
    if (highest_ - sequence >= size_) return false;
    return (words_[word_of(sequence)] >> bit_of(sequence) & 1) == 0;
  }

  // The whole number of a packet that carries `low`: the first that is not left of the window, or of one of `size` (RFC 4303 appendix A2.2).
  [[nodiscard]] std::uint64_t extend(std::uint32_t low) const noexcept { return extend(low, size_); }
  [[nodiscard]] std::uint64_t extend(std::uint32_t low, std::uint32_t size) const noexcept {
    const std::uint64_t bottom = highest_ < size ? 0 : highest_ - size + 1;
    const std::uint64_t number = (bottom & ~std::uint64_t{0xffffffff}) | low;
    return number < bottom ? number + (std::uint64_t{1} << 32) : number;
  }

  // Marks an authenticated number as seen; false if it is not acceptable (any more).
  bool accept(std::uint64_t sequence) noexcept {
    if (size_ == 0) return true;
    if (!is_acceptable(sequence)) return false;
    if (sequence > highest_) advance(sequence);
    words_[word_of(sequence)] |= std::uint64_t{1} << bit_of(sequence);
    return true;
  }

  // A window of another size that knows what this one knows. A number that the larger of them reaches and the smaller did not counts as seen.
  [[nodiscard]] ReplayWindow resized(std::uint32_t size) const {
    ReplayWindow result(size);
    result.highest_ = highest_;
    if (size_ == 0 || size == 0) return result;
    const std::uint32_t known = size < size_ ? size : size_;
    const auto from = [this](std::uint32_t reach) { return highest_ < reach ? 0 : highest_ - reach + 1; };
    result.mark(from(known), highest_, [this](std::uint64_t number) { return words_[word_of(number)]; });
    if (size > known && highest_ > known) {
      result.mark(from(size), highest_ - known, [](std::uint64_t) { return ~std::uint64_t{0}; });
    }
    return result;
  }

  // Becomes as wide as that at least, and knows what it knew. Where there is no memory it stays as it is, which refuses more than it would have to.
  void widen(std::uint32_t size) noexcept {
    if (size <= size_) return;
    try {
      *this = resized(size);
    } catch (const std::bad_alloc&) {
    }
  }

 private:
  // One word more than the window holds, so that clearing the word ahead never clears part of the window; a power of two for masking.
  static constexpr std::size_t ring_words(std::uint32_t size) noexcept {
    std::size_t words = 2;
    while (words < size / 64 + 2) words *= 2;
    return words;
  }

  [[nodiscard]] std::size_t word_of(std::uint64_t sequence) const noexcept { return (sequence >> 6) & (words_.size() - 1); }
  static unsigned bit_of(std::uint64_t sequence) noexcept { return sequence & 63; }

  // Those of the numbers from `first` to `last` that `seen` has in its word. Words, for there may be a window for each of very many senders.
  template <typename Seen>
  void mark(std::uint64_t first, std::uint64_t last, Seen seen) noexcept {
    for (std::uint64_t word = first >> 6; word <= last >> 6; ++word) {
      std::uint64_t bits = seen(word << 6);
      if (word == first >> 6) bits &= ~std::uint64_t{0} << bit_of(first);
      if (word == last >> 6) bits &= ~std::uint64_t{0} >> (63 - bit_of(last));
      words_[word_of(word << 6)] |= bits;
    }
  }

  void advance(std::uint64_t sequence) noexcept {
    const std::uint64_t from = highest_ >> 6;
    const std::uint64_t to = sequence >> 6;
    const std::uint64_t fresh = to - from < words_.size() ? to - from : words_.size();
    for (std::uint64_t step = 1; step <= fresh; ++step) words_[(from + step) & (words_.size() - 1)] = 0;
    highest_ = sequence;
  }

  std::uint32_t size_;
  std::uint64_t highest_ = 0;
  std::vector<std::uint64_t> words_;
};

}  // namespace groupvpn
