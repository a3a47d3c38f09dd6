// What is remembered of a key in the life of this process, whatever SAs are made of it.
#pragma once

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

  [[nodiscard]] std::size_t senders() noexcept { return windows.senders() + (timed ? timed->senders() : 0); }
};

// A caller that makes an SA anew with the same keys (a reload, a second interface, another Sender-ID) must not start again. If the sequence
// began at 1 anew, a counter-mode cipher would repeat nonces and give the key stream away (RFC 4106 2, RFC 6054 5), and receivers with a
// replay window would drop what follows. If the windows began empty, everything recorded under the key could be replayed once more.
//
// The ledger holds SHA-256 digests, no keys. It forgets no sequence counter: 100 octets for each key and Sender-ID that the process has ever
// had. Of the windows that no SA uses it keeps `idle_windows`, those of the SAs that were made last.
class KeyLedger {
 public:
  static constexpr std::size_t idle_windows = 65536;

  static KeyLedger& instance();

  // The counter of the last number given for these keys and this Sender-ID, at least `parameters.last_sequence`.
  std::shared_ptr<std::atomic<std::uint64_t>> sequence_of(const SaParameters& parameters, Crypto& crypto);

  // The memory of this SPI and its keys. Its windows have the size that was asked for last: what a larger one does not know counts as seen.
  std::shared_ptr<KeyMemory> memory_of(const SaParameters& parameters, Crypto& crypto);

 private:
  using Digest = std::array<std::uint8_t, 32>;
  struct Kept {
    std::shared_ptr<KeyMemory> memory;
    std::uint64_t made = 0;
  };

  void forget_idle();

  std::mutex mutex_;
  std::map<Digest, std::shared_ptr<std::atomic<std::uint64_t>>> sequences_;
  std::map<Digest, Kept> memories_;
  std::uint64_t made_ = 0;
};

}  // namespace groupvpn
