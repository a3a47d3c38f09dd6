#include "reassembly.hpp"

#include <algorithm>
#include <cstring>
#include <new>

#include "checksum.hpp"

namespace groupvpn {
namespace {

constexpr std::uint8_t not_capable = 1U << 0, congested = 1U << 3;  // as bits of `Entry::codepoints`

}  // namespace

Reassembler::Entries::iterator Reassembler::find_or_make(const Key& key, double now, std::uint32_t& lost) {
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.key == key; });
  if (found != entries_.end()) return found;
  if (entries_.size() == maximum_datagrams) {
    lost += entries_.front().fragments();
    entries_.pop_front();
  }
  entries_.push_back({.key = key, .deadline = now + timeout, .header = {}, .octets = {}, .pieces = {}, .blocks = {}, .starts = {}});
  return std::prev(entries_.end());
}

// Whether there can be a datagram with it: it has octets, whole blocks of them where others follow, and ends within the largest one.
bool Reassembler::Fragment::is_possible() const noexcept {
  return !payload.empty() && (is_last || payload.size() % 8 == 0) && header.size() + offset + payload.size() <= maximum_size(key.family);
}

// Whether this very fragment is there: the same octets from the same place on, and as many.
bool Reassembler::is_duplicate(const Entry& entry, const Fragment& fragment) {
  const std::uint32_t block = fragment.offset / 8;
  if (!entry.starts.test(block)) return false;
  const std::uint8_t* octets = entry.octets.data();
  auto piece = entry.pieces.begin();
  for (; piece->block != block; ++piece) octets += piece->length;
  const bool ends_datagram = fragment.offset + piece->length == entry.payload_length;
  return piece->length == fragment.payload.size() && ends_datagram == fragment.is_last && std::memcmp(octets, fragment.payload.data(), piece->length) == 0;
}

// Keeps the octets of a fragment; false if it contradicts what is there.
bool Reassembler::keep(Entry& entry, const Fragment& fragment) {
  const auto length = static_cast<std::uint16_t>(fragment.payload.size());
  const auto first = static_cast<std::uint16_t>(fragment.offset / 8);
  const std::uint32_t end = fragment.offset + length;
  if (entry.payload_length != 0 && (fragment.is_last || end > entry.payload_length)) return false;
  if (fragment.is_last && end < entry.end) return false;
  for (std::uint32_t block = first; block < (end + 7) / 8; ++block) {
    if (entry.blocks.test(block)) return false;
    entry.blocks.set(block);
  }
  entry.starts.set(first);
  entry.octets.insert(entry.octets.end(), fragment.payload.begin(), fragment.payload.end());
  entry.pieces.push_back({first, length});
  entry.end = std::max(entry.end, end);
  if (fragment.is_last) entry.payload_length = end;
  if (fragment.offset == 0) {
    entry.header.assign(fragment.header.begin(), fragment.header.end());
    if (fragment.key.family == Family::ipv6) entry.header[fragment.named_at] = fragment.protocol;
  }
  entry.codepoints |= static_cast<std::uint8_t>(1U << fragment.ecn);
  return true;
}

// The header of the first fragment, with the length of the whole. One marked fragment marks the packet, which is dropped if another one is
// not ECN-capable (RFC 3168 5.3): its sender would not understand the mark, and a mark must not be lost.
Reassembled Reassembler::finish(Entry& entry) {
  const std::size_t length = entry.header.size() + entry.payload_length;
  if (length > maximum_size(entry.key.family)) return {.lost = entry.fragments()};
  const bool is_congested = (entry.codepoints & congested) != 0;
  if (is_congested && (entry.codepoints & not_capable) != 0) return {.lost = entry.fragments(), .reason = Reason::congestion};
  auto datagram = std::make_unique<std::vector<std::uint8_t>>(length);
  std::uint8_t* ip = datagram->data();
  std::uint8_t* payload = std::copy(entry.header.begin(), entry.header.end(), ip);
  const std::uint8_t* octets = entry.octets.data();
  for (const Piece& piece : entry.pieces) {
    std::memcpy(payload + piece.block * 8U, octets, piece.length);
    octets += piece.length;
  }
  if (entry.key.family == Family::ipv6) {
    if (is_congested) ip[1] |= 0x30;
  } else {
    if (is_congested) ip[ipv4_at::tos] |= 3;
    store16(ip + ipv4_at::fragment, 0);
  }
  set_total_length(ip, length);
  return {.datagram = std::move(datagram), .joined = entry.fragments()};
}

Reassembled Reassembler::add(const Ipv4& ip, double now) {
  if (!is_checksum_right(ip.data(), ip.header_length())) return {.lost = 1};
  Fragment fragment{};
  fragment.key.family = Family::ipv4;
  fragment.key.protocol = ip.protocol();
  fragment.key.identification = ip.identification();
  std::memcpy(fragment.key.source.data(), ip.data() + ipv4_at::source, 4);
  std::memcpy(fragment.key.destination.data(), ip.data() + ipv4_at::destination, 4);
  fragment.header = {ip.data(), ip.header_length()};
  fragment.payload = {ip.payload(), ip.payload_length()};
  fragment.offset = (ip.fragment_field() & Ipv4::offset_mask) * 8U;
  fragment.is_last = (ip.fragment_field() & Ipv4::more_fragments) == 0;
  fragment.ecn = ip.tos() & 3;
  return add(fragment, now);
}

Reassembled Reassembler::add(const Ipv6& ip, const Ipv6Chain& chain, double now) {
  const std::uint8_t* header = ip.data() + chain.fragment;
  const std::uint16_t field = load16(header + fragment_at::offset);
  const std::uint32_t payload = chain.fragment + fragment_header_size;
  Fragment fragment{};
  fragment.key.family = Family::ipv6;
  fragment.key.identification = load32(header + fragment_at::identification);
  std::memcpy(fragment.key.source.data(), ip.source(), 16);
  std::memcpy(fragment.key.destination.data(), ip.destination(), 16);
  fragment.header = {ip.data(), chain.fragment};
  fragment.payload = {ip.data() + payload, ip.total_length() - payload};
  fragment.offset = field & ipv6_offset_mask;
  fragment.is_last = (field & ipv6_more_fragments) == 0;
  fragment.ecn = ip.traffic_class() & 3;
  fragment.named_at = chain.fragment_named_at;
  fragment.protocol = header[fragment_at::next_header];
  return add(fragment, now);
}

// A datagram for which there is no memory is given up, like one for which there is no room.
Reassembled Reassembler::add(const Fragment& fragment, double now) {
  if (!fragment.is_possible()) return {.lost = 1};
  Reassembled result;
  auto entry = entries_.end();
  std::uint32_t fragments = 1;  // of the datagram, with this one
  try {
    entry = find_or_make(fragment.key, now, result.lost);
    if (is_duplicate(*entry, fragment)) {
      ++result.lost;
      return result;
    }
    fragments = entry->fragments() + 1;
    if (keep(*entry, fragment)) {
      if (entry->payload_length == 0 || entry->octets.size() != entry->payload_length) return result;
      Reassembled whole = finish(*entry);
      whole.lost += result.lost;
      entries_.erase(entry);
      return whole;
    }
  } catch (const std::bad_alloc&) {
  }
  result.lost += fragments;
  if (entry != entries_.end()) entries_.erase(entry);
  return result;
}

std::uint32_t Reassembler::expire(double now) {
  std::uint32_t lost = 0;
  while (!entries_.empty() && entries_.front().deadline <= now) {
    lost += entries_.front().fragments();
    entries_.pop_front();
  }
  return lost;
}

std::uint32_t Reassembler::pending_fragments() const noexcept {
  std::uint32_t count = 0;
  for (const Entry& entry : entries_) count += entry.fragments();
  return count;
}

}  // namespace groupvpn
