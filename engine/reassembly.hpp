// Puts ESP packets together that the core, or in IPv6 their sender, has fragmented (RFC 791 3.2, RFC 8200 4.5, RFC 4303 3.4.1), in bounded
// memory.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <vector>

#include "packet.hpp"

namespace groupvpn {

// What became of one fragment. `lost` counts fragments of a datagram that was given up on, this one included where it applies, and this one alone
// where it had come before or can be part of none; `reason` says why.
struct Reassembled {
  std::unique_ptr<std::vector<std::uint8_t>> datagram = nullptr;  // a whole IP packet, when this fragment completed it
  std::uint32_t joined = 0;                             // with `datagram`: how many fragments it took
  std::uint32_t lost = 0;
  Reason reason = Reason::fragment;  // or congestion: one is marked, and another not ECN-capable
};

// A table of datagrams in the making. An overlap gives the whole datagram up: an honest sender never makes one, and every way to resolve it has been
// used to deceive (RFC 5722 says so for IPv6). A fragment that comes twice, as networks happen to do, is no overlap, and one that can be part of no
// datagram is dropped alone (RFC 8200 4.5). When the table is full the oldest entry goes. `now` is in seconds of a monotonic clock.
class Reassembler {
 public:
  static constexpr std::size_t maximum_datagrams = 64;  // of at most 256 KiB each, with what vectors have in reserve: 16 MiB
  // Short, because at a million fragments a second identifications repeat within tens of milliseconds; the core does not hold a fragment longer.
  static constexpr double timeout = 2.0;

  Reassembled add(const Ipv4& fragment, double now);
  // `chain` is the fragment's, and has a fragment header.
  Reassembled add(const Ipv6& fragment, const Ipv6Chain& chain, double now);
  // Gives up datagrams that ran out of time; returns the fragments lost.
  std::uint32_t expire(double now);
  [[nodiscard]] std::uint32_t pending_fragments() const noexcept;

 private:
  struct Key {
    Family family;
    std::uint8_t protocol;  // IPv4 only (RFC 791 3.2)
    std::uint32_t identification;
    Address source, destination;
    bool operator==(const Key&) const = default;
  };
  // A fragment of either family: where its part begins and how long it is, and the header that a whole packet would have before it.
  struct Fragment {
    Key key;
    std::span<const std::uint8_t> header;
    std::span<const std::uint8_t> payload;
    std::uint32_t offset;
    bool is_last;
    std::uint8_t ecn;
    [[nodiscard]] bool is_possible() const noexcept;
    std::uint32_t named_at;  // IPv6: the octet of the header that named the fragment header
    std::uint8_t protocol;   // IPv6: what it names now
  };
  struct Piece {
    std::uint16_t block, length;  // where it belongs, in blocks of 8 octets, and its octets
    std::uint32_t at;             // where they lie
  };
  // The octets lie in the order in which they came, so that a datagram takes no more memory than its fragments have brought, wherever they say
  // that they belong.
  struct Entry {
    Key key;
    double deadline;
    std::uint32_t end = 0;             // of what has come
    std::uint32_t payload_length = 0;  // known once the last fragment came
    std::uint8_t codepoints = 0;       // of ECN: a bit for each that a fragment had
    std::vector<std::uint8_t> header;  // of the first fragment, without the fragment header of IPv6
    std::vector<std::uint8_t> octets;
    std::vector<Piece> pieces;  // in the order of their blocks
    std::bitset<8192> blocks;   // of 8 octets
    [[nodiscard]] std::uint32_t fragments() const noexcept { return static_cast<std::uint32_t>(pieces.size()); }
  };
  using Entries = std::list<Entry>;

  Entries::iterator find_or_make(const Key& key, double now, std::uint32_t& lost);
  Reassembled add(const Fragment& fragment, double now);
  static std::vector<Piece>::const_iterator place_of(const Entry& entry, const Fragment& fragment);
  static bool is_duplicate(const Entry& entry, const Fragment& fragment);
  static bool keep(Entry& entry, const Fragment& fragment);
  static Reassembled finish(Entry& entry);

  Entries entries_;  // oldest first
};

}  // namespace groupvpn
