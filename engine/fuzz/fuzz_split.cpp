// What the kernel hands to the inbound path as a super-packet of UDP: a segment size and an IP packet, both any octets. The segments must be
// all of what the outer header holds, in their order, and be as many as was said.
//
// The input is the segment size (two octets, little-endian) and the packet.
#include <algorithm>
#include <memory>

#include "outer.hpp"
#include "split.hpp"

using namespace groupvpn;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2 || size > 70000) return 0;
  const std::uint32_t segment_size = data[0] | data[1] << 8;
  const std::size_t length = size - 2;
  const std::unique_ptr<std::uint8_t[]> octets(new std::uint8_t[length]);  // exactly as long, so that an overrun is seen
  std::copy(data + 2, data + size, octets.get());
  Packet packet;
  packet.data = octets.get();
  packet.length = static_cast<std::uint32_t>(length);
  if (parse_outer(packet) != Reason::delivered) return 0;
  Splitter splitter(packet, segment_size);
  if (splitter.reason() != Reason::delivered) return 0;
  std::uint32_t count = 0;
  const std::uint8_t* expected = packet.data;
  for (; const std::optional<Packet> segment = splitter.next(); ++count) {
    if (segment->data != expected || segment->length == 0 || segment->length > segment_size) __builtin_trap();
    volatile std::uint8_t last = segment->data[segment->length - 1];
    static_cast<void>(last);
    expected += segment->length;
  }
  if (count != splitter.count() || count > Splitter::maximum_segments || expected != packet.data + packet.length) __builtin_trap();
  return 0;
}
