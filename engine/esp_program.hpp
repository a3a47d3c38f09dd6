// The BPF programs for what comes in by an interface.
#pragma once

#include <linux/bpf.h>

#include <cstdint>
#include <vector>

#include "descriptor.hpp"
#include "device.hpp"
#include "ring_program.hpp"

namespace groupvpn {

struct EspProgramMaps {
  RingMaps rings;
  const Descriptor& spis;   // by SPI in network order, how its packets are spread over the rings (Spread)
  const Descriptor& bells;  // a Doorbell for each ring
};

// A program for the ingress of an interface. It takes ESP (RFC 4303) over IPv4 without options, or over IPv6 without extension headers, that is
//
// - whole: no fragment, since one that is not the first has no SPI
// - in a frame of at most `longest` octets, that is of no VLAN, not for another host and not from the first four octets of `token`
// - of one of the SPIs
//
// and copies it into the ring that `Spread` says, and wakes its thread if that rests; the packet ends there. All others go on.
std::vector<bpf_insn> esp_program(const EspProgramMaps& maps, const MacAddress& token, std::uint32_t longest, std::uint32_t rings);

// A program that leads each packet to the queue of a TAP that has the number of its ring. ESP in UDP and AH are spread by the same rules; what has no
// SPI (fragments) by its addresses, and what has an unknown one goes to the first queue.
std::vector<bpf_insn> queue_program(const Descriptor& spis, std::uint32_t queues);

}  // namespace groupvpn
