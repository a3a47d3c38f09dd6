// Fragmentation after encryption, and what the far gateway makes of it: any packet at any MTU, its fragments in any order, one of them perhaps twice
// or changed. Each must be an IP packet that fits; what comes of all of them, unchanged, must be the packet.
//
// The input: two octets of MTU, one of what the rest becomes and of what happens on the way, one that shuffles, and the packet.
#include <algorithm>
#include <memory>

#include "../tests/harness.hpp"
#include "fragment.hpp"
#include "reassembly.hpp"
#include "whole.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

// None if it is no fragment.
std::optional<Reassembled> add(Reassembler& reassembler, Octets& octets) {
  if (const auto ip = Ipv4::parse(octets.data(), octets.size())) {
    return ip->is_fragment() ? std::optional(reassembler.add(*ip, 0)) : std::nullopt;
  }
  const auto ip = Ipv6::parse(octets.data(), octets.size());
  const auto chain = ip ? Ipv6Chain::walk(*ip) : std::nullopt;
  return chain && chain->is_fragment(*ip) ? std::optional(reassembler.add(*ip, *chain, 0)) : std::nullopt;
}

// DF is for the way, so it goes with the fragments.
bool is_the_same(Octets packet, const Octets& joined) {
  if (packet[0] >> 4 == 4) {
    store16(&packet[6], 0);
    write_header_checksum(packet.data());
    packet.resize(Ipv4::parse(packet.data(), packet.size())->total_length());  // without what the link layer padded
  } else {
    packet.resize(Ipv6::parse(packet.data(), packet.size())->total_length());
  }
  return packet == joined;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 4 || size > 60000) return 0;  // what is longer is put together in IPv4 only
  const std::uint32_t mtu = 68 + load16(data) % 2000;
  const std::uint8_t form = data[2];
  Octets octets(data + 4, data + size);
  if ((form & 3) == 1) octets = ipv4(octets, {.protocol = protocol_esp, .fragment = (form & 4) != 0 ? Ipv4::dont_fragment : std::uint16_t{0}});
  if ((form & 3) == 2) octets = ipv6(octets, protocol_esp);
  Packet packet;
  packet.data = octets.data();
  packet.length = static_cast<std::uint32_t>(octets.size());
  const Octets before = octets;
  Fragmenter fragmenter(packet, mtu, 77);
  std::vector<Octets> fragments;
  Octets room(mtu);
  while (const std::uint32_t length = fragmenter.next(room)) {
    if (length > mtu) __builtin_trap();
    fragments.emplace_back(room.begin(), room.begin() + length);
    Packet fragment;
    fragment.data = fragments.back().data();
    fragment.length = length;
    if (!is_whole(fragment, fragments.back())) __builtin_trap();
  }
  if (octets != before || (!fragmenter.is_possible() && !fragments.empty())) __builtin_trap();
  if (fragments.empty()) return 0;

  Random random(data[3]);
  std::ranges::shuffle(fragments, random.engine());
  const bool is_twice = (form & 8) != 0, is_changed = (form & 16) != 0;
  if (is_twice) fragments.push_back(fragments[random.below(static_cast<std::uint32_t>(fragments.size()))]);
  if (is_changed) {
    Octets& changed = fragments[random.below(static_cast<std::uint32_t>(fragments.size()))];
    changed[random.below(static_cast<std::uint32_t>(changed.size()))] ^= static_cast<std::uint8_t>(form | 1);
  }
  Reassembler reassembler;
  std::uint64_t added = 0, ended = 0;
  std::size_t joined = 0;
  for (Octets& fragment : fragments) {
    const std::optional<Reassembled> result = add(reassembler, fragment);
    if (!result) continue;
    ++added;
    ended += result->lost;
    if (!result->datagram) continue;
    ended += result->joined;
    ++joined;
    Packet whole;
    whole.data = result->datagram->data();
    whole.length = static_cast<std::uint32_t>(result->datagram->size());
    if (!is_whole(whole, *result->datagram)) __builtin_trap();
    if (!is_changed && !is_the_same(octets, *result->datagram)) __builtin_trap();
  }
  if (added != ended + reassembler.pending_fragments()) __builtin_trap();
  if (!is_twice && !is_changed && added == fragments.size() && joined != 1) __builtin_trap();
  return 0;
}
