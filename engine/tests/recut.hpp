// Bursts through the coalescer and back: our own Cutter plays the kernel's part.
#pragma once

#include <map>
#include <utility>
#include <vector>

#include "build.hpp"
#include "coalesce.hpp"
#include "cut.hpp"

namespace groupvpn::test {

class Collector final : public PacketSink {
 public:
  std::uint8_t* open(std::uint32_t length) noexcept override {
    room_.assign(length, 0);
    return room_.data();
  }
  void commit(std::uint32_t length) noexcept override { packets.emplace_back(room_.begin(), room_.begin() + length); }
  std::vector<Octets> packets;

 private:
  Octets room_;
};

struct Frame {
  Octets octets;
  Offload offload;
};

// The frames (without link header) that a burst becomes.
inline std::vector<Frame> couple(std::vector<Octets> packets, bool with_udp = true) {
  std::vector<Packet> burst(packets.size());
  for (std::size_t index = 0; index < packets.size(); ++index) {
    burst[index].data = packets[index].data();
    burst[index].length = static_cast<std::uint32_t>(packets[index].size());
  }
  Coalescer coalescer(with_udp);
  std::vector<Frame> frames;
  for (const SuperPacket& super : coalescer.couple(burst)) {
    Frame frame{packets[super.first], offload_of(super, burst[super.first], 0)};
    for (std::uint16_t index = super.first; index != super.last;) {
      index = coalescer.next(index);
      frame.octets.insert(frame.octets.end(), packets[index].begin() + super.headers, packets[index].end());
    }
    frames.push_back(std::move(frame));
  }
  return frames;
}

// What the kernel would make of the frames; nothing if a frame is not what the kernel has to be given.
inline std::vector<Octets> cut_again(std::vector<Frame> frames) {
  Collector collector;
  Cutter cutter(1);
  for (Frame& frame : frames) {
    if (frame.offload.gso_type == Offload::gso_none) {
      collector.packets.push_back(frame.octets);
      continue;
    }
    const auto ip = CutPacket::parse(frame.octets.data(), frame.octets.size());
    if (!ip || ip->total_length != frame.octets.size()) return {};
    if (ip->family == Family::ipv4 && !is_checksum_right(ip->octets, ip->ip_length)) return {};
    const std::size_t field = std::size_t{frame.offload.checksum_start} + frame.offload.checksum_offset;
    const std::uint16_t sum = finish_sum(pseudo_header_sum(ip->octets, ip->protocol, ip->transport_length()));
    if (frame.offload.flags != Offload::needs_checksum || load16(&frame.octets[field]) != static_cast<std::uint16_t>(~sum)) return {};
    if (cutter.cut(frame.octets.data(), 0, *ip, frame.offload, {ipv4_maximum_size, false}, collector) != Reason::delivered) return {};
  }
  return collector.packets;
}

inline Octets without_identification(Octets packet) {
  if (packet[0] >> 4 == 4 && (load16(&packet[6]) & Ipv4::dont_fragment) != 0) {
    store16(&packet[4], 0);
    write_header_checksum(packet.data());
  }
  return packet;
}

// Packets by flow, in order; what has no ports is a flow by its addresses and protocol.
inline std::map<Octets, std::vector<Octets>> flows(const std::vector<Octets>& packets) {
  std::map<Octets, std::vector<Octets>> result;
  for (const Octets& packet : packets) {
    const bool is_ipv6 = packet[0] >> 4 == 6;
    const std::uint8_t protocol = packet[is_ipv6 ? 6 : 9];
    const long addresses = is_ipv6 ? 8 : 12, ports = is_ipv6 ? 40 : 20;
    const bool has_ports = (protocol == protocol_tcp || protocol == protocol_udp) && (is_ipv6 || packet[0] == 0x45) &&
                           packet.size() >= static_cast<std::size_t>(ports) + 4;
    Octets key(packet.begin() + addresses, packet.begin() + (has_ports ? ports + 4 : ports));
    key.push_back(protocol);
    result[key].push_back(without_identification(packet));
  }
  return result;
}

inline bool comes_out_as_it_was(const std::vector<Octets>& packets) { return flows(cut_again(couple(packets))) == flows(packets); }

}  // namespace groupvpn::test
