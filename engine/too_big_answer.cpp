#include "too_big_answer.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <span>

#include "icmp.hpp"
#include "inject.hpp"

namespace groupvpn {

bool TooBigAnswer::give(const CutPacket& refused, const std::uint8_t* link, std::uint32_t mtu, Clock::time_point now) noexcept {
  const auto ip = Ipv4::parse(refused.octets, refused.total_length);
  const auto other = ip ? std::nullopt : Ipv6::parse(refused.octets, refused.total_length);
  if (!(ip && may_answer_with_icmp(*ip)) && !(other && may_answer_with_icmp(*other))) return false;
  Address source{};
  ip ? std::memcpy(source.data(), ip->data() + ipv4_at::source, 4) : std::memcpy(source.data(), other->source(), source.size());
  if (!limit_.admits(source, 0, now.time_since_epoch().count())) return false;
  std::array<std::uint8_t, inject_headroom + icmpv6_maximum_size> buffer;
  Packet packet;
  packet.data = buffer.data() + inject_headroom;
  packet.headroom = inject_headroom;
  const std::span<std::uint8_t, icmpv6_maximum_size> room(packet.data, icmpv6_maximum_size);
  packet.length = ip ? write_fragmentation_needed(*ip, mtu, room.first<icmp_maximum_size>()) : write_packet_too_big(*other, std::max(mtu, ipv6_minimum_mtu), room);
  MacAddress ours;  // the kernel wrote it into the frame as its source
  std::memcpy(ours.data(), link + ours.size(), ours.size());
  return inject(tap_, packet, ours, token_);
}

}  // namespace groupvpn
