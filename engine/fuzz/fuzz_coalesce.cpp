// What decryption hands to the coalescer: bursts of packets that a member made, right or wrong in any octet. What the kernel would make of the
// frames must be the packets that came, and in their order.
//
// The input is a sequence of 4 octets for each packet: its form and flow, its size, and which octet of it is changed to what.
#include "../tests/recut.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

Octets build(std::uint8_t form, std::uint32_t size, std::uint32_t sequence, std::uint16_t identification) {
  const bool is_tcp = (form & 1) != 0;
  const std::uint32_t transport = is_tcp ? 20 : 8;
  Octets payload(transport + size, form);
  std::fill_n(payload.begin(), transport, std::uint8_t{0});
  payload[1] = form >> 1 & 3;
  if (is_tcp) {
    store32(&payload[4], sequence);
    payload[12] = 0x50;
    payload[13] = (form & 0x40) != 0 ? 0x18 : 0x10;
  } else {
    store16(&payload[4], static_cast<std::uint16_t>(payload.size()));
  }
  const auto length = static_cast<std::uint32_t>(payload.size());
  const std::uint32_t field = is_tcp ? 16 : 6;
  if ((form & 6) == 6) {
    Octets packet = ipv6(payload, {.next_header = is_tcp ? protocol_tcp : protocol_udp});
    store16(&packet[40 + field], finish_sum(add_sum(&packet[40], length, pseudo_header_sum(packet.data(), packet[6], length))));
    return packet;
  }
  Header header{.protocol = is_tcp ? protocol_tcp : protocol_udp, .identification = identification};
  header.fragment = (form & 0x08) != 0 ? Ipv4::dont_fragment : std::uint16_t{0};
  Octets packet = ipv4(payload, header);
  store16(&packet[20 + field], finish_sum(add_sum(&packet[20], length, pseudo_header_sum(packet.data(), header.protocol, length))));
  return packet;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<Octets> packets;
  std::uint32_t sequences[8] = {};
  for (; size >= 4 && packets.size() < Coalescer::maximum_burst; data += 4, size -= 4) {
    const std::uint8_t form = data[0];
    std::uint32_t& sequence = sequences[form & 7];
    const std::uint32_t octets = (form & 0x10) != 0 ? data[1] * 6U : 1000U;
    Octets packet = build(form, octets, sequence, static_cast<std::uint16_t>(packets.size()));
    sequence += octets;
    const std::size_t at = data[2];
    const bool is_ipv6 = packet[0] >> 4 == 6;
    const bool holds = is_ipv6 ? at != 4 && at != 5 : at != 2 && at != 3;  // decapsulation has made the length of the packet and its header agree
    if ((form & 0x20) != 0 && at < packet.size() && holds) {
      packet[at] = data[3];
      if (packet[0] >> 4 != (is_ipv6 ? 6 : 4) || (!is_ipv6 && !Ipv4::parse(packet.data(), packet.size()))) continue;
      if ((form & 0x80) != 0 && !is_ipv6) write_header_checksum(packet.data());
    }
    packets.push_back(std::move(packet));
  }
  if (!comes_out_as_it_was(packets)) __builtin_trap();
  return 0;
}
