// What a packet ring takes, as a program that the kernel runs for each frame before it copies anything (classic BPF, bpf(4)).
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <span>
#include <vector>

#include "device.hpp"

namespace groupvpn {

// A program for frames with their Ethernet header. It takes ESP (RFC 4303) over IPv4, or over IPv6 without extension headers, that is
//
// - in a frame of at most `longest` octets, that is of no VLAN, not for another host and not from the first four octets of `token`
// - no fragment, since one that is not the first has no SPI
// - of one of `spis`
//
// and nothing else: all other frames cost a look at some octets and no copy, super-packets in the clear too. The rules that nftables has
// for the same frames must say the same (src/groupvpn/dataplane/ruleset.py). `spis` is sorted. The program looks for the SPI as in a tree,
// so 200 SAs cost 9 comparisons; with more than `maximum_spis` it takes any SPI, and leaves the search to the engine.
std::vector<sock_filter> ring_filter(std::span<const std::uint32_t> spis, const MacAddress& token, std::uint32_t longest);

// The same with any SPI.
std::vector<sock_filter> any_spi_filter(const MacAddress& token, std::uint32_t longest);

inline constexpr std::size_t maximum_spis = 1000;

}  // namespace groupvpn
