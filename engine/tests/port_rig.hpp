// Ports with real TAPs and a real wire, in a network namespace of the test's own, which is gone when the test ends:
//
//   here ── TAP "out" ── port ── wan ══ core ── here ── TAP "in" ── port ── TAP "in" ── here
//
// The test plays the kernel's part: it hands frames to the TAPs and looks at what comes out. Run under ThreadSanitizer it shows that
// Python's calls and the two threads share nothing unguarded.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "bpf_ring.hpp"
#include "error.hpp"
#include "inject.hpp"
#include "own_network.hpp"
#include "port.hpp"

namespace groupvpn::test {

inline constexpr MacAddress token = {0x02, 0x47, 0x44, 0x4f, 0x49, 0x77};

// Of all counters whose names begin so.
inline std::uint64_t sum(const NamedCounters& counters, const std::string& prefix) {
  std::uint64_t total = 0;
  for (const auto& [name, value] : counters) total += name.starts_with(prefix) ? value : 0;
  return total;
}

inline bool has_bpf_ring() {
  if (!has_own_network()) return false;
  try {
    const auto probe = BpfRing::make(Device::named("wan"), token, 1500, std::vector{-1});
    return true;
  } catch (const EngineError& error) {
    return cannot_have(std::string("a ring that a BPF program fills: ") + error.what());
  }
}

// Leads to the TAP what the kernel goes on with, as the table of an interface does in life, or drops it where that is a copy: the ring takes no fragments.
struct EspTable {
  explicit EspTable(const Port& port) {
    run("nft 'add table netdev t; add chain netdev t c { type filter hook ingress device \"wan\" priority 0; }; " +
        std::string(port.copy_limit() != 0 ? "add rule netdev t c ip protocol esp ip frag-off & 0x3fff == 0 drop; " : "") +
        "add rule netdev t c ip protocol esp fwd to \"in\"'");
  }
  ~EspTable() { run("nft delete table netdev t"); }
  EspTable(const EspTable&) = delete;
  EspTable& operator=(const EspTable&) = delete;
};

struct Rig {
  explicit Rig(ReceiveMethod receive = ReceiveMethod::tap, std::vector<int> processors = {}, TransmitMethod transmit = TransmitMethod::automatic)
      : port({.wan = "wan",
              .inbound_taps = {in.number()},
              .token = token,
              .wire_mtu = 1500,
              .transmit = transmit,
              .receive = receive,
              .processors = std::move(processors)}) {}

  // Sends one packet round: into the port, over the core, and back out decrypted. ESP comes in by the TAP, or off the wire by the ring.
  bool round_trip(const Octets& packet, const Ear* way_in = nullptr, const Tag& given = {}) {
    to_protect.send(frame_around(packet));
    const Octets esp = core.receive();
    if (esp.size() < 34 || esp[23] != protocol_esp) return false;
    (way_in != nullptr ? *way_in : kernel).send(esp);
    Octets expected = frame_around(packet);
    const MacAddress source = tagged(token, given);
    std::copy(source.begin(), source.end(), expected.begin() + 6);
    return kernel.receive() == expected;
  }

  [[nodiscard]] std::uint64_t count(const std::string& prefix) const { return sum(port.counters(), prefix); }
  // Whether so many packets have come to their end by the port after a while: counters that begin with `prefix`.
  [[nodiscard]] bool comes_to(const std::string& prefix, std::uint64_t packets) const {
    return wait_until([&] { return count(prefix) >= packets; });
  }

  Descriptor out = open_tap("out"), in = open_tap("in");
  Ear to_protect{"out"}, core{"core"}, kernel{"in"};
  Port port;
  std::size_t queue = port.add_outbound({out.number()});
};

inline std::vector<int> numbers_of(const std::vector<Descriptor>& descriptors) {
  std::vector<int> numbers;
  for (const Descriptor& descriptor : descriptors) numbers.push_back(descriptor.number());
  return numbers;
}

// A port with several workers, whose flows are told apart by their addresses.
struct Crew {
  static constexpr std::uint32_t flows = 40;

  explicit Crew(std::size_t workers, ReceiveMethod receive = ReceiveMethod::tap)
      : out(open_tap("out", workers)), in(open_tap("in", workers)),
        port({.wan = "wan", .inbound_taps = numbers_of(in), .token = token, .wire_mtu = 1500, .receive = receive}),
        queue(port.add_outbound(numbers_of(out))) {}

  void protect(const Senders& senders) { port.set_sas({senders.front()}, {{queue, senders}}); }

  // One packet of each flow, a given number of times; what leaves, in its order.
  std::vector<Octets> send(std::uint32_t rounds) {
    for (std::uint32_t round = 0; round < rounds; ++round) {
      for (std::uint32_t flow = 0; flow < flows; ++flow) {
        to_protect.send(frame_around(ipv4(Octets(60, static_cast<std::uint8_t>(round)), {.source = 0x0a010000 + flow, .destination = 0x0a020000 + flow})));
      }
    }
    std::vector<Octets> sent;
    while (sent.size() < std::size_t{rounds} * flows) {
      Octets esp = core.receive();
      if (esp.empty()) break;
      sent.push_back(std::move(esp));
    }
    return sent;
  }

  std::vector<Descriptor> out, in;
  Ear to_protect{"out"}, core{"core"}, kernel{"in"};
  Port port;
  std::size_t queue;
};

// Of ESP over IPv4 as it left.
inline std::uint32_t sequence_of(const Octets& frame) { return load32(&frame[14 + 20 + 4]); }
inline std::uint32_t flow_of(const Octets& frame) { return load32(&frame[14 + 12]); }

}  // namespace groupvpn::test
