// What the kernel hands to the inbound path as a super-packet of UDP: a segment size and an IP packet. The segments must be all of what the outer
// header holds, in their order, and be as many as was said. Those whose SA wants it are set apart, and all are decapsulated in one burst, as the inbound
// path does; an SA of each form waits for them. What comes through must be a packet inside its buffer.
//
// The input is the segment size (two octets, little-endian) and an octet that says what follows: the packet, of any octets; or how one is made of
// what SAs seal: the SA (two octets), length (two octets, little-endian) and number of the packets inside, and changes of three octets each, a place
// and what it is combined with. Then a segment size of 0 stands for the right one.
#include <algorithm>
#include <memory>

#include "../tests/forms.hpp"
#include "outer.hpp"
#include "split.hpp"
#include "whole.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

struct World {
  std::vector<std::shared_ptr<Sa>> sas = all_forms();
  std::vector<Sa*> in_udp;
  SaSet set{sas};
  Esp esp;

  World() {
    for (const auto& sa : sas) {
      if (sa->udp()) in_udp.push_back(sa.get());
    }
  }
};

std::uint32_t number_at(const std::uint8_t* data) { return data[0] | static_cast<std::uint32_t>(data[1]) << 8; }

struct Made {
  Octets super, inner;
  std::uint32_t segment_size = 0, payload = 0;
  Sa* sa = nullptr;
};

// One outer header, and behind it the ESP packets of several.
Made make_super_packet(World& world, const std::uint8_t* data) {
  Made made;
  made.sa = world.in_udp[number_at(data) % world.in_udp.size()];
  const Octets payload(number_at(data + 2) % 1500, data[2]);
  made.payload = static_cast<std::uint32_t>(payload.size());
  made.inner = (data[0] & 1) != 0 ? ipv6(payload, protocol_udp) : ipv4(payload);
  for (int count = data[4] % 8; count >= 0; --count) {
    Buffer sealed(made.inner);
    sealed.packet.sa = made.sa;
    world.esp.encapsulate({&sealed.packet, 1}, 0);
    if (sealed.packet.reason != Reason::delivered) return {};
    Packet esp = sealed.packet;
    if (parse_outer(esp) != Reason::delivered) __builtin_trap();
    const std::uint8_t* begin = made.super.empty() ? sealed.packet.data : esp.data;
    made.super.insert(made.super.end(), begin, static_cast<const std::uint8_t*>(esp.data + esp.length));
    made.segment_size = esp.length;
  }
  const bool is_ipv6 = made.super[0] >> 4 == 6;
  const std::size_t header = is_ipv6 ? ipv6_header_size : ipv4_header_size;
  if (is_ipv6) {
    store16(&made.super[4], static_cast<std::uint16_t>(made.super.size() - header));
  } else {
    store16(&made.super[2], static_cast<std::uint16_t>(made.super.size()));
    write_header_checksum(made.super.data());
  }
  store16(&made.super[header + 4], static_cast<std::uint16_t>(made.super.size() - header));
  return made;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static World world;
  if (size < 3 || size > 70000) return 0;
  std::uint32_t segment_size = number_at(data);
  const bool is_made = (data[2] & 1) != 0;
  if (is_made && size < 8) return 0;
  Made made;
  bool is_whole_way = false;
  if (is_made) {
    made = make_super_packet(world, data + 3);
    if (made.super.empty()) return 0;
    is_whole_way = segment_size == 0 && size < 11;
    if (segment_size == 0) segment_size = made.segment_size;
    for (data += 8, size -= 8; size >= 3; data += 3, size -= 3) made.super[number_at(data) % made.super.size()] ^= data[2];
  } else {
    made.super.assign(data + 3, data + size);
  }
  const std::size_t length = made.super.size();
  const std::unique_ptr<std::uint8_t[]> octets(new std::uint8_t[length]);  // exactly as long, so that an overrun is seen
  std::copy(made.super.begin(), made.super.end(), octets.get());
  Packet packet;
  packet.data = octets.get();
  packet.length = static_cast<std::uint32_t>(length);
  if (parse_outer(packet) != Reason::delivered) return 0;
  Splitter splitter(packet, segment_size);
  if (splitter.reason() != Reason::delivered) return 0;
  std::vector<Packet> burst;
  std::vector<std::unique_ptr<Octets>> apart;  // one for each, or null
  const std::uint8_t* expected = packet.data;
  while (std::optional<Packet> segment = splitter.next()) {
    if (segment->data != expected || segment->length == 0 || segment->length > segment_size) __builtin_trap();
    volatile std::uint8_t last = segment->data[segment->length - 1];
    static_cast<void>(last);
    expected += segment->length;
    const Sa* sa = segment->length < 4 ? nullptr : world.set.find(load32(segment->data));
    apart.push_back(sa != nullptr && sa->reaches_before() ? splitter.set_apart(*segment) : nullptr);
    if (apart.back() && segment->data + segment->length != apart.back()->data() + apart.back()->size()) __builtin_trap();
    burst.push_back(*segment);
  }
  if (burst.size() != splitter.count() || burst.size() > Splitter::maximum_segments || expected != packet.data + packet.length) __builtin_trap();

  world.esp.decapsulate(world.set, burst, 0);
  for (std::size_t index = 0; index < burst.size(); ++index) {
    const Packet& opened = burst[index];
    const std::span<std::uint8_t> buffer = apart[index] ? std::span(*apart[index]) : std::span(octets.get(), length);
    if (opened.reason == Reason::delivered && !is_whole(opened, buffer)) __builtin_trap();
    if (!is_whole_way) continue;
    if (opened.reason != Reason::delivered || opened.length != made.inner.size()) __builtin_trap();
    const bool is_transport = made.sa->mode() == Mode::transport;
    const std::size_t begin = is_transport ? opened.length - made.payload : 0;  // the header is one that the kernel wrote
    const std::size_t checksum = begin + 6;
    if (is_transport && made.inner[0] >> 4 == 6 && made.payload >= 8) {  // that of UDP is made anew: a NAT may have changed addresses (RFC 3948 3.1.2)
      std::copy_n(opened.data + checksum, 2, made.inner.begin() + static_cast<std::ptrdiff_t>(checksum));
    }
    if (!std::equal(opened.data + begin, opened.data + opened.length, made.inner.begin() + static_cast<std::ptrdiff_t>(begin))) __builtin_trap();
  }
  return 0;
}
