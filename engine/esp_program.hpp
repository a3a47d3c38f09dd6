// The BPF programs of an interface, and the memory that they share with us.
#pragma once

#include <linux/bpf.h>

#include <cstdint>
#include <vector>

#include "descriptor.hpp"
#include "device.hpp"

namespace groupvpn {

// The maps of a program. Ring number n has control n, and `slot_count` slots from number n * slot_count on.
struct EspProgramMaps {
  const Descriptor& controls;
  const Descriptor& slots;
  const Descriptor& spis;  // by SPI in network order, how its packets are spread over the rings (Spread)
};

struct EspProgramLayout {
  static constexpr std::uint32_t slot_count = 4096;  // of each ring; a power of two

  // A control: each word on a cache line of its own. Producer and consumer count slots; the program claims a slot by counting the producer up, we
  // give slots back by counting the consumer up.
  static constexpr std::int16_t producer = 0, resting = 64, consumer = 128, overruns = 192;
  static constexpr std::uint32_t control_size = 256;

  // A slot: its state, how many octets the frame has (0: not all of it could be copied), and the frame, whose IP header begins a cache line.
  static constexpr std::int16_t state = 0, length = 4, ip_offset = 64, frame_offset = 50;
  static constexpr std::uint32_t slot_header_size = 8;
  enum State : std::uint32_t { unfilled = 0, filled = 1, left = 2 };  // left: claimed in vain, the packet went another way
};

// A program for the ingress of an interface. It takes ESP (RFC 4303) over IPv4 without options, or over IPv6 without extension headers, that is
//
// - whole: no fragment, since one that is not the first has no SPI
// - in a frame of at most `longest` octets, that is not VLAN-tagged, not for another host and not from `token`
// - of one of the SPIs
//
// and copies it into the ring that `Spread` says, if that is not resting; the packet ends there. All others go on.
std::vector<bpf_insn> esp_program(const EspProgramMaps& maps, const MacAddress& token, std::uint32_t longest, std::uint32_t rings);

// A program that leads each packet to the queue of a TAP that has the number of its ring. ESP in UDP and AH are spread by the same rules; what has no
// SPI (fragments) by its addresses, and what has an unknown one goes to the first queue.
std::vector<bpf_insn> queue_program(const Descriptor& spis, std::uint32_t queues);

}  // namespace groupvpn
