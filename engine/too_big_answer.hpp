// What the sender of a packet that was too big is told, and how often.
#pragma once

#include <chrono>
#include <cstdint>

#include "cut.hpp"
#include "device.hpp"
#include "source_limit.hpp"
#include "tap.hpp"

namespace groupvpn {

// Gives ICMP messages (icmp.hpp) to the kernel as if they had come in by the WAN.
class TooBigAnswer {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr Clock::duration interval = std::chrono::milliseconds(1);             // from one answer to a sender to the next
  static constexpr Clock::duration interval_of_all = std::chrono::microseconds(100);    // in the long run
  static constexpr std::int64_t burst = 20;

  // The kernel gets them by `tap`, in frames that come from `token`.
  TooBigAnswer(const Tap& tap, const MacAddress& token) noexcept : tap_(tap), token_(token) {}

  // Tells the sender of `refused`, whose frame has this link header, that `mtu` octets would have fit. False if it was not told: it is too soon, it may not be
  // answered (which does not use up the turn of another one), or the kernel did not take it.
  bool give(const CutPacket& refused, const std::uint8_t* link, std::uint32_t mtu, Clock::time_point now = Clock::now()) noexcept;

 private:
  const Tap& tap_;
  MacAddress token_;
  SourceLimit limit_{{.each_source = interval.count(), .each = interval_of_all.count(), .burst = burst}};
};

}  // namespace groupvpn
