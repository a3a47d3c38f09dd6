// ESP in tunnel mode with address preservation (RFC 4303, RFC 5374 3.1): bursts of packets in, the same packets out, in place.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "crypto.hpp"
#include "packet.hpp"
#include "random.hpp"
#include "sa.hpp"
#include "timed.hpp"

namespace groupvpn {

// Room that `encapsulate` needs before and behind a packet: IPv4, SPI and sequence, the longest IV; padding, its length, next header, ICV.
inline constexpr std::uint32_t esp_headroom = ipv4_header_size + 8 + 16;
inline constexpr std::uint32_t esp_tailroom = 16 + 2 + 32;

// One per thread. Header rules (docs/decisions/outer-header.md): the outer header repeats source, destination, TOS and TTL of the inner
// one and has no options; DF is copied unless the SA clears it; the identification is the engine's own.
class Esp {
 public:
  Esp();

  // Each packet carries its SA in `sa` (none: Reason::no_sa) and a whole IPv4 packet; it comes out as a whole ESP packet.
  // `now` is the time that packets of an SA with a time window are stamped with.
  void encapsulate(std::span<Packet> packets, std::int64_t now = boot_milliseconds()) noexcept;

  // Each packet is an IP packet as received, or what is behind its outer header if `outer` says what that was; it comes out as the inner packet, with `sa` set, or with the reason why not.
  void decapsulate(const SaSet& sas, std::span<Packet> packets, std::int64_t now = boot_milliseconds()) noexcept;

  // A starting point for the identifications of another stage.
  std::uint16_t random_identification() noexcept;

  [[nodiscard]] const Crypto& crypto() const noexcept { return crypto_; }

 private:
  static constexpr std::size_t burst_size = Crypto::maximum_burst;

  // Who sent a packet, the sequence number it carries, and the number that it has among those of its sender, where that is another one.
  struct Origin {
    std::uint32_t sequence;
    std::uint32_t sender;
    std::uint64_t number;
  };

  void encapsulate_burst(std::span<Packet> packets, std::int64_t now) noexcept;
  Reason build(Packet& packet, Operation& operation, std::int64_t now) noexcept;
  void hide_counters(std::size_t count) noexcept;
  void write_outer_header(const Ipv4& inner, std::uint8_t* outer, std::uint32_t length, DontFragment df) noexcept;

  void decapsulate_burst(const SaSet& sas, std::span<Packet> packets, std::int64_t now) noexcept;
  static Reason parse(const SaSet& sas, Packet& packet, Operation& operation, Origin& origin, std::int64_t now) noexcept;
  std::size_t reveal_counters(std::size_t count, std::int64_t now) noexcept;
  static Reason strip(Packet& packet, const Operation& operation, const Origin& origin, std::int64_t now) noexcept;

  Crypto crypto_;
  RandomOctets random_;
  std::uint16_t next_identification_;
  std::array<Operation, burst_size> operations_;
  std::array<Packet*, burst_size> owners_;  // the packet of each operation
  CounterBlocks counters_;
  std::array<Origin, burst_size> origins_;               // decapsulation only
  std::array<std::uint32_t, burst_size> inner_lengths_;  // encapsulation only
};

}  // namespace groupvpn
