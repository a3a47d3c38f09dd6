// Fragments in any number, order and form: the input is a sequence of them, each with two octets of family (the highest bit), offset and flags, one
// of length and one of identification and time. A datagram that comes out must be whole, and every fragment must be accounted for.
#include <optional>

#include "../tests/build.hpp"
#include "reassembly.hpp"
#include "whole.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

std::optional<Reassembled> add_ipv4(Reassembler& reassembler, const Octets& payload, std::uint16_t place, std::uint8_t identification, double now) {
  Header header{.protocol = protocol_esp};
  header.fragment = place & (Ipv4::more_fragments | Ipv4::offset_mask);
  header.identification = identification;
  Octets fragment = ipv4(payload, header);
  const std::optional<Ipv4> ip = Ipv4::parse(fragment.data(), fragment.size());
  if (!ip || !ip->is_fragment()) return std::nullopt;
  return reassembler.add(*ip, now);
}

std::optional<Reassembled> add_ipv6(Reassembler& reassembler, const Octets& payload, std::uint16_t place, std::uint8_t identification, double now) {
  Octets behind(8);
  behind[0] = protocol_esp;
  store16(&behind[2], static_cast<std::uint16_t>((place & Ipv4::offset_mask) << 3 | ((place & Ipv4::more_fragments) != 0)));
  behind[7] = identification;
  behind.insert(behind.end(), payload.begin(), payload.end());
  Octets fragment = ipv6(behind, protocol_fragment);
  const Ipv6 ip = *Ipv6::parse(fragment.data(), fragment.size());
  const std::optional<Ipv6Chain> chain = Ipv6Chain::walk(ip);
  if (!chain || !chain->is_fragment(ip)) return std::nullopt;
  return reassembler.add(ip, *chain, now);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Reassembler reassembler;
  double now = 0;
  std::uint64_t added = 0, ended = 0;
  for (; size >= 4; data += 4, size -= 4) {
    now += (data[3] >> 3) * 0.05;
    const Octets payload(data[2] * 4U, data[2]);
    const std::uint16_t place = load16(data);
    const auto add = (place & 0x8000) != 0 ? add_ipv6 : add_ipv4;
    std::optional<Reassembled> result = add(reassembler, payload, place, data[3] & 0x07, now);
    if (!result) continue;
    ++added;
    ended += result->lost + reassembler.expire(now);
    if (!result->datagram) continue;
    ended += result->joined;
    Packet packet;
    packet.data = result->datagram->data();
    packet.length = static_cast<std::uint32_t>(result->datagram->size());
    if (!is_whole(packet, *result->datagram)) __builtin_trap();
  }
  if (added != ended + reassembler.pending_fragments()) __builtin_trap();
  return 0;
}
