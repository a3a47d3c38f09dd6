#include "ring_filter.hpp"

#include <linux/if_ether.h>
#include <linux/if_packet.h>

#include "packet.hpp"

namespace groupvpn {
namespace {

constexpr std::uint32_t take_all = 0xffffffff;
constexpr std::size_t leaf_size = 4;  // SPIs that are compared one after the other

using Program = std::vector<sock_filter>;

void add(Program& program, int code, std::uint32_t value) { program.push_back({static_cast<std::uint16_t>(code), 0, 0, value}); }

void give_up(Program& program) { add(program, BPF_RET | BPF_K, 0); }

// Goes on if the accumulator compares with `value` in this way, else gives the frame up.
void require(Program& program, int comparison, std::uint32_t value) {
  program.push_back({static_cast<std::uint16_t>(BPF_JMP | comparison | BPF_K), 1, 0, value});
  give_up(program);
}

void refuse(Program& program, int comparison, std::uint32_t value) {
  program.push_back({static_cast<std::uint16_t>(BPF_JMP | comparison | BPF_K), 0, 1, value});
  give_up(program);
}

// A conditional jump leads 255 instructions far, an unconditional one anywhere: so the way to the upper half is "skip, or jump".
void search(Program& program, std::span<const std::uint32_t> spis) {
  if (spis.size() <= leaf_size) {
    for (const std::uint32_t spi : spis) {
      program.push_back({BPF_JMP | BPF_JEQ | BPF_K, 0, 1, spi});
      add(program, BPF_RET | BPF_K, take_all);
    }
    return give_up(program);
  }
  const std::size_t middle = spis.size() / 2;
  program.push_back({BPF_JMP | BPF_JGE | BPF_K, 0, 1, spis[middle]});
  const std::size_t jump = program.size();
  add(program, BPF_JMP | BPF_JA, 0);
  search(program, spis.first(middle));
  program[jump].k = static_cast<std::uint32_t>(program.size() - jump - 1);
  search(program, spis.subspan(middle));
}

// All but what is asked of the SPI, which is in the accumulator then.
Program find_spi(const MacAddress& token, std::uint32_t longest) {
  constexpr std::uint32_t ancillary = static_cast<std::uint32_t>(SKF_AD_OFF);
  constexpr std::uint32_t ip = ETH_HLEN;
  Program program;
  add(program, BPF_LD | BPF_H | BPF_ABS, 12);
  program.push_back({BPF_JMP | BPF_JEQ | BPF_K, 0, 8, ETH_P_IP});
  add(program, BPF_LD | BPF_B | BPF_ABS, ip + ipv4_at::protocol);
  require(program, BPF_JEQ, protocol_esp);
  add(program, BPF_LD | BPF_H | BPF_ABS, ip + ipv4_at::fragment);
  refuse(program, BPF_JSET, Ipv4::more_fragments | Ipv4::offset_mask);
  add(program, BPF_LDX | BPF_B | BPF_MSH, ip);
  add(program, BPF_JMP | BPF_JA, 6);
  require(program, BPF_JEQ, ETH_P_IPV6);  // where the first comparison leads if it is not IPv4
  add(program, BPF_LD | BPF_B | BPF_ABS, ip + ipv6_at::next_header);
  require(program, BPF_JEQ, protocol_esp);
  add(program, BPF_LDX | BPF_IMM, ipv6_header_size);
  add(program, BPF_LD | BPF_W | BPF_LEN, 0);  // where both meet; X is the length of the IP header
  refuse(program, BPF_JGT, longest);
  add(program, BPF_LD | BPF_B | BPF_ABS, ancillary + SKF_AD_VLAN_TAG_PRESENT);
  program.push_back({BPF_JMP | BPF_JEQ | BPF_K, 3, 0, 0});
  add(program, BPF_LD | BPF_H | BPF_ABS, ancillary + SKF_AD_VLAN_TAG);
  refuse(program, BPF_JSET, 0xfff);
  add(program, BPF_LD | BPF_B | BPF_ABS, ancillary + SKF_AD_PKTTYPE);
  refuse(program, BPF_JGE, PACKET_OTHERHOST);  // host, broadcast and multicast come before it
  add(program, BPF_LD | BPF_W | BPF_ABS, 6);
  refuse(program, BPF_JEQ, load32(token.data()));  // token_prefix_size octets
  add(program, BPF_LD | BPF_W | BPF_IND, ip);
  return program;
}

}  // namespace

std::vector<sock_filter> ring_filter(std::span<const std::uint32_t> spis, const MacAddress& token, std::uint32_t longest) {
  if (spis.size() > maximum_spis) return any_spi_filter(token, longest);
  Program program = find_spi(token, longest);
  search(program, spis);
  return program;
}

std::vector<sock_filter> any_spi_filter(const MacAddress& token, std::uint32_t longest) {
  Program program = find_spi(token, longest);
  add(program, BPF_RET | BPF_K, take_all);
  return program;
}

}  // namespace groupvpn
