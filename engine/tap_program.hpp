// The BPF programs of an outbound TAP: packets to protect go from the kernel straight into memory that the engine shares.
#pragma once

#include <linux/bpf.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ring_program.hpp"

namespace groupvpn {

// A VLAN tag behind the addresses of each packet that goes by the TAP because a ring rests. No interface has its VLAN, 4095. The four bits
// above that count how often the ring had risen when it came to rest: what came into the ring before is older than the packet, and what comes
// into it when it has risen again is newer. Never 0.
struct RiseMark {
  static constexpr std::uint16_t ethertype = 0x88a8, vlan = 0x0fff;
  static constexpr std::size_t at = 12, size = 4;
  static constexpr std::uint32_t of(std::uint32_t times) noexcept { return (times & 0xf) << 12 | vlan; }
};

// A program for the egress of a TAP. It takes TCP and UDP, whole packets over IPv4 without options or over IPv6 without extension headers, in
// frames of at most `longest` octets without a VLAN tag. Unless the ring of its flow rests, such a frame is copied into it, and the packet ends
// there. The length of its record has `queue`, the number of the TAP, in its upper half.
//
// A super-packet, and every packet of which the program cannot know what checksum is left to do in it, goes on to the TAP. So that none of the same
// flow overtakes it, the ring rests from then on. So that none overtakes another one of the ring, all that go by the TAP carry a RiseMark.
std::vector<bpf_insn> tap_program(const RingMaps& maps, std::uint32_t longest, std::uint32_t rings, std::uint32_t queue);

// A program that leads each packet to the queue of a TAP that has the number of its ring.
std::vector<bpf_insn> flow_queue_program(std::uint32_t queues);

}  // namespace groupvpn
