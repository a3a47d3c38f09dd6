#include "reassembly.hpp"

#include <algorithm>
#include <cstring>

#include "checksum.hpp"

namespace groupvpn {

Reassembler::Entries::iterator Reassembler::find_or_make(const Key& key, double now, std::uint32_t& lost) {
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.key == key; });
  if (found != entries_.end()) return found;
  if (entries_.size() == maximum_datagrams) {
    lost += entries_.front().fragments;
    entries_.pop_front();
  }
  entries_.push_back({.key = key, .deadline = now + timeout, .header = {}, .payload = {}, .blocks = {}});
  return std::prev(entries_.end());
}

// Puts the octets of a fragment in their place; false if it contradicts what is there.
bool Reassembler::place(Entry& entry, const Ipv4& fragment) {
  const std::uint32_t offset = (fragment.fragment_field() & Ipv4::offset_mask) * 8U;
  const std::uint32_t length = fragment.payload_length();
  const bool is_last = (fragment.fragment_field() & Ipv4::more_fragments) == 0;
  const std::uint32_t end = offset + length;
  if (length == 0 || end + fragment.header_length() > ipv4_maximum_size || (!is_last && length % 8 != 0)) return false;
  if (entry.payload_length != 0 && (is_last || end > entry.payload_length)) return false;
  if (is_last && end < entry.payload.size()) return false;
  for (std::uint32_t block = offset / 8; block < (end + 7) / 8; ++block) {
    if (entry.blocks.test(block)) return false;
    entry.blocks.set(block);
  }
  if (entry.payload.size() < end) entry.payload.resize(end);
  std::memcpy(entry.payload.data() + offset, fragment.payload(), length);
  if (is_last) entry.payload_length = end;
  if (offset == 0) entry.header.assign(fragment.data(), fragment.data() + fragment.header_length());
  entry.received += length;
  ++entry.fragments;
  entry.is_congested = entry.is_congested || (fragment.tos() & 3) == 3;
  return true;
}

std::unique_ptr<std::vector<std::uint8_t>> Reassembler::finish(Entry& entry) {
  const std::size_t header_length = entry.header.size();
  if (header_length + entry.payload_length > ipv4_maximum_size) return nullptr;
  auto datagram = std::make_unique<std::vector<std::uint8_t>>(std::move(entry.header));
  datagram->insert(datagram->end(), entry.payload.begin(), entry.payload.end());
  std::uint8_t* ip = datagram->data();
  store16(ip + 2, static_cast<std::uint16_t>(datagram->size()));
  store16(ip + 6, 0);
  if (entry.is_congested) ip[1] |= 3;  // one marked fragment marks the datagram (RFC 3168 5.3)
  write_header_checksum(ip);
  return datagram;
}

Reassembled Reassembler::add(const Ipv4& fragment, double now) {
  Reassembled result;
  if (!is_checksum_right(fragment.data(), fragment.header_length())) {
    result.lost = 1;
    return result;
  }
  const Key key{fragment.source(), fragment.destination(), fragment.identification(), fragment.protocol()};
  const auto entry = find_or_make(key, now, result.lost);
  if (!place(*entry, fragment)) {
    result.lost += entry->fragments + 1;
    entries_.erase(entry);
    return result;
  }
  if (entry->payload_length == 0 || entry->received != entry->payload_length) return result;
  result.joined = entry->fragments;
  result.datagram = finish(*entry);
  if (!result.datagram) result.lost += result.joined;
  entries_.erase(entry);
  return result;
}

std::uint32_t Reassembler::expire(double now) {
  std::uint32_t lost = 0;
  while (!entries_.empty() && entries_.front().deadline <= now) {
    lost += entries_.front().fragments;
    entries_.pop_front();
  }
  return lost;
}

std::uint32_t Reassembler::pending_fragments() const noexcept {
  std::uint32_t count = 0;
  for (const Entry& entry : entries_) count += entry.fragments;
  return count;
}

}  // namespace groupvpn
