// ESP (RFC 4303), and AH (RFC 4302) beside it: bursts of packets in, the same packets out, in place.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "ah.hpp"
#include "crypto.hpp"
#include "esp_packet.hpp"
#include "outer.hpp"
#include "packet.hpp"
#include "random.hpp"
#include "sa.hpp"
#include "timed.hpp"

namespace groupvpn {

// Room that `encapsulate` needs before and behind a packet. Before: IPv6 and the longest AH, which is more than UDP, ESP and an IV; behind:
// padding, its length, next header, ICV.
inline constexpr std::uint32_t esp_headroom = ipv6_header_size + 48;
inline constexpr std::uint32_t esp_tailroom = 16 + 2 + 32;

// One per thread. What the outer header says: outer.hpp and docs/decisions/outer-header.md.
class Esp {
 public:
  Esp();

  // Each packet carries its SA in `sa` (none: Reason::no_sa) and a whole IP packet; it comes out as a whole packet of ESP or AH.
  // `now` is the time that packets of an SA with a time window are stamped with.
  void encapsulate(std::span<Packet> packets, std::int64_t now = boot_milliseconds()) noexcept;

  // Each packet is an IP packet as received, or what is behind its outer header if `outer` says what that was; it comes out as the packet that
  // was protected, with `sa` set, or with the reason why not.
  void decapsulate(const SaSet& sas, std::span<Packet> packets, std::int64_t now = boot_milliseconds()) noexcept;

  // A starting point for the identifications of another stage.
  std::uint16_t random_identification() noexcept;

  [[nodiscard]] const Crypto& crypto() const noexcept { return crypto_; }

 private:
  static constexpr std::size_t burst_size = Crypto::maximum_burst;

  void encapsulate_burst(std::span<Packet> packets, std::int64_t now) noexcept;
  Reason build(Packet& packet, std::size_t index, std::int64_t now) noexcept;
  void hide_counters(std::size_t count) noexcept;
  void finish(const Packet& packet, std::size_t index) noexcept;

  void decapsulate_burst(const SaSet& sas, std::span<Packet> packets, std::int64_t now) noexcept;
  Reason parse(const SaSet& sas, Packet& packet, std::size_t index, std::int64_t now) noexcept;
  std::size_t reveal_counters(std::size_t count, std::int64_t now) noexcept;
  Reason strip(Packet& packet, std::size_t index, std::int64_t now) noexcept;

  Crypto crypto_;
  RandomOctets random_;
  Identifications identifications_;
  std::array<Operation, burst_size> operations_;
  std::array<Packet*, burst_size> owners_;  // the packet of each operation
  CounterBlocks counters_;
  std::array<Plan, burst_size> plans_;          // encapsulation only
  std::array<Origin, burst_size> origins_;      // decapsulation only
  std::array<SavedHeader, burst_size> saved_headers_;  // AH only
};

}  // namespace groupvpn
