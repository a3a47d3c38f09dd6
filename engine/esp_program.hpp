// The BPF programs for what comes in by an interface.
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "descriptor.hpp"
#include "device.hpp"
#include "packet.hpp"
#include "ring_program.hpp"

namespace groupvpn {

struct EspProgramMaps {
  RingMaps rings;
  const Descriptor& spis;   // by SPI in network order, how its packets are spread over the rings (Spread)
  const Descriptor& bells;  // a Doorbell for each ring
};

// A frame that the program sends to a TAP to wake the thread of a ring: the beginning of the packet that lies in the ring, from the token. No other frame that is read from
// the TAP comes from there. Behind the token the source address has the number of the ring, so that the frame finds the queue of its thread whatever SAs there are by now.
struct WakeUp {
  static constexpr std::int16_t ring_at = token_prefix_size;  // of the address, in the processor's order
  static constexpr std::uint32_t size = ETH_ZLEN;
  static bool is(std::span<const std::uint8_t> frame, const MacAddress& token) noexcept {
    return frame.size() >= ETH_HLEN && std::equal(token.begin(), token.begin() + token_prefix_size, frame.begin() + ETH_ALEN);
  }
};

// A program for the ingress of an interface. It takes ESP (RFC 4303) over IPv4 without options, or over IPv6 without extension headers, that is
//
// - whole: no fragment, since one that is not the first has no SPI
// - in a frame of at most `longest` octets, that is of no VLAN, not for another host and not from the first four octets of `token`
// - of one of the SPIs
//
// and copies it into the ring that `Spread` says, and wakes its thread if that rests; the packet ends there. All others go on.
//
// The thread is woken by a WakeUp at `tap`, the number of a device without a queueing discipline that has a queue for each ring. If there is none (0), or it has no room,
// the thread's doorbell is rung, which costs an interrupt to ourselves: some microseconds on a virtual machine.
std::vector<bpf_insn> esp_program(const EspProgramMaps& maps, const MacAddress& token, std::uint32_t longest, std::uint32_t rings, int tap);

// A program that leads each packet, and each WakeUp, to the queue of a TAP that has the number of its ring. ESP in UDP and AH are spread by the same rules; what has no
// SPI (fragments) by its addresses, and what has an unknown one goes to the first queue.
std::vector<bpf_insn> queue_program(const Descriptor& spis, const MacAddress& token, std::uint32_t queues);

}  // namespace groupvpn
