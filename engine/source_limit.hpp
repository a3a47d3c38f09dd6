// How often others may have us do something: each of them, and all together.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "packet.hpp"

namespace groupvpn {

// A place for each source, of which there are few: two that share one by chance may be admitted too often, which the limit of all together bounds. Times are of one
// clock, in one unit, which the owner chooses.
class SourceLimit {
 public:
  struct Terms {
    std::int64_t each_source;  // from one time to the next of a source, for each kind
    std::int64_t each;         // what every one pays, whoever it is for
    std::int64_t burst;        // the debt may not exceed so many of them
  };

  explicit SourceLimit(const Terms& terms) noexcept : terms_(terms) {}

  bool admits(const Address& source, std::uint8_t kind, std::int64_t now) noexcept {
    std::uint64_t halves[2];
    std::memcpy(halves, source.data(), sizeof halves);
    const std::uint64_t mixed = (halves[0] ^ (halves[1] << 1) ^ kind) * 0x9e3779b97f4a7c15ULL;
    Place& place = places_[mixed >> 56];
    if (place.kind == kind && place.source == source && now < place.again) return false;
    const std::int64_t paid = std::max(paid_until_, now) + terms_.each;
    if (paid > now + terms_.burst * terms_.each) return false;
    paid_until_ = paid;
    place = {source, now + terms_.each_source, kind};
    return true;
  }

 private:
  struct Place {
    Address source{};
    std::int64_t again = 0;
    std::uint8_t kind = 0;
  };
  Terms terms_;
  std::array<Place, 256> places_{};
  std::int64_t paid_until_ = 0;
};

}  // namespace groupvpn
