// Fragments in any number, order and form: the input is a sequence of them, each with two octets of offset and flags, one of length and
// one of identification and time. A datagram that comes out must be whole.
#include "../tests/build.hpp"
#include "reassembly.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Reassembler reassembler;
  double now = 0;
  std::uint64_t added = 0, ended = 0;
  for (; size >= 4; data += 4, size -= 4) {
    Header header{.protocol = protocol_esp};
    header.fragment = static_cast<std::uint16_t>(load16(data) & (Ipv4::more_fragments | Ipv4::offset_mask));
    header.identification = data[3] & 0x07;
    now += (data[3] >> 3) * 0.05;
    Octets fragment = ipv4(Octets(data[2] * 4U, data[2]), header);
    const Ipv4 ip = *Ipv4::parse(fragment.data(), fragment.size());
    if (!ip.is_fragment()) continue;
    ++added;
    const Reassembled result = reassembler.add(ip, now);
    ended += result.lost + reassembler.expire(now);
    if (!result.datagram) continue;
    ended += result.joined;
    const auto whole = Ipv4::parse(result.datagram->data(), result.datagram->size());
    if (!whole || whole->is_fragment() || whole->total_length() != result.datagram->size()) __builtin_trap();
  }
  if (added != ended + reassembler.pending_fragments()) __builtin_trap();
  return 0;
}
