// What is remembered of a key in the life of this process, whatever SAs are made of it.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "crypto.hpp"
#include "lifetime.hpp"
#include "senders.hpp"
#include "timed.hpp"

namespace groupvpn {

struct SaParameters;

// What an SA has received, and how much its key was used for.
struct KeyMemory {
  std::mutex mutex;  // of the windows
  SenderWindows windows;
  std::shared_ptr<TimedReplay> timed;  // of SAs with a time window; has a mutex of its own
  Usage usage;

  // That the windows take.
  [[nodiscard]] std::size_t octets() noexcept { return windows.octets() + (timed ? timed->octets() : 0); }
};

// The numbers of packets under one key, from one Sender-ID on.
struct Sequence {
  std::atomic<std::uint64_t> last{0};
  // The last one before another Sender-ID begins in the IV. No counter comes so far, unless Sender-IDs of one key have different widths.
  std::atomic<std::uint64_t> limit{~std::uint64_t{0}};
  // Held from numbering packets to their leaving, so that numbers leave in their order whoever shares them: workers of a port, ports of one
  // SA, SAs of one key.
  std::mutex order;
};

// A caller that makes an SA anew with the same keys (a reload, a second interface, another Sender-ID) must not start again. If the sequence
// began at 1 anew, a counter-mode cipher would repeat nonces and give the key stream away (RFC 4106 2, RFC 6054 5), and receivers with a
// replay window would drop what follows. If the windows began empty, everything recorded under the key could be replayed once more.
//
// A nonce is the key's, whatever is made of it: all ciphers that count, with any length of their ICV, take numbers from the counter of what
// their IVs begin with.
//
// The ledger holds SHA-256 digests, no keys. Sequence counters are never forgotten: some 300 octets for each key that the process has ever
// had, and 100 for each further Sender-ID of it. Windows and usage are kept for SAs in use, and for the idle ones that were made last: twice as
// many as were ever in use at once, so that all may be made anew, but at least `idle_keys`. The windows of idle ones take at most `idle_octets`
// together; but the newest of them keeps its own even beyond that.
class KeyLedger {
 public:
  static constexpr std::size_t idle_octets = SenderBudget::octets;  // but for the newest
  static constexpr std::size_t idle_keys = 64;

  static KeyLedger& instance();

  // The numbers of these keys and this Sender-ID, from `parameters.last_sequence` on at least.
  std::shared_ptr<Sequence> sequence_of(const SaParameters& parameters, Crypto& crypto);

  // The memory of this SPI and its keys. Its windows have the size that was asked for last, or the one that a ring wants
  // (`Sa::keep_at_least`): what a larger one does not know counts as seen.
  std::shared_ptr<KeyMemory> memory_of(const SaParameters& parameters, Crypto& crypto);

  // How many keys that nobody uses are remembered.
  [[nodiscard]] std::size_t idle_limit() {
    const std::lock_guard lock(mutex_);
    return most_idle();
  }

 private:
  using Digest = std::array<std::uint8_t, 32>;
  // By what the IV begins with: the Sender-ID, and nothing behind it. Where no IV counts there is one, at 0.
  using Sequences = std::map<std::uint64_t, std::shared_ptr<Sequence>>;
  struct Kept {
    std::shared_ptr<KeyMemory> memory;
    std::uint64_t made = 0;
  };

  static std::shared_ptr<Sequence> sequence_at(Sequences& sequences, std::uint64_t begin, std::uint64_t last);
  [[nodiscard]] std::size_t most_idle() const noexcept { return std::max(idle_keys, 2 * most_in_use_); }
  template <typename Weight>
  void forget_idle(std::size_t bound, Weight weight);

  std::mutex mutex_;
  std::map<Digest, Sequences> sequences_;
  std::map<Digest, Kept> memories_;
  std::uint64_t made_ = 0;
  std::size_t most_in_use_ = 0;
};

}  // namespace groupvpn
