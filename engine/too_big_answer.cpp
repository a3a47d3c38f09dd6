#include "too_big_answer.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include "icmp.hpp"
#include "inject.hpp"

namespace groupvpn {

bool TooBigAnswer::give(const CutPacket& refused, const std::uint8_t* link, std::uint32_t mtu, Clock::time_point now) noexcept {
  if (now < next_) return false;
  std::array<std::uint8_t, inject_headroom + icmpv6_maximum_size> buffer;
  Packet packet;
  packet.data = buffer.data() + inject_headroom;
  packet.headroom = inject_headroom;
  const std::span<std::uint8_t, icmpv6_maximum_size> room(packet.data, icmpv6_maximum_size);
  if (const auto ip = Ipv4::parse(refused.octets, refused.total_length); ip && may_answer_with_icmp(*ip)) {
    packet.length = write_fragmentation_needed(*ip, mtu, room.first<icmp_maximum_size>());
  } else if (const auto other = Ipv6::parse(refused.octets, refused.total_length); other && may_answer_with_icmp(*other)) {
    packet.length = write_packet_too_big(*other, std::max(mtu, ipv6_minimum_mtu), room);
  } else {
    return false;
  }
  next_ = now + interval;
  MacAddress ours;  // the kernel wrote it into the frame as its source
  std::memcpy(ours.data(), link + ours.size(), ours.size());
  return inject(tap_, packet, ours, token_);
}

}  // namespace groupvpn
