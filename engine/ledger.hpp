// Sequence counters by key, so that a number is never used twice under one key in the life of this process.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "crypto.hpp"

namespace groupvpn {

struct SaParameters;

// A caller that makes an SA anew with the same keys (a reload, a second interface) must not start again at 1: with a counter-mode cipher
// that repeats nonces and gives the key stream away (RFC 4106 2, RFC 6054 5), with a replay window the receivers drop what follows.
// The ledger holds SHA-256 digests, no keys, and forgets none: 100 octets for each SA that the process has ever had.
class SequenceLedger {
 public:
  static SequenceLedger& instance();

  // The counter of the last number given for these keys and this Sender-ID, at least `parameters.last_sequence`.
  std::shared_ptr<std::atomic<std::uint64_t>> counter_of(const SaParameters& parameters, Crypto& crypto);

 private:
  std::mutex mutex_;
  std::map<std::array<std::uint8_t, 32>, std::shared_ptr<std::atomic<std::uint64_t>>> counters_;
};

}  // namespace groupvpn
