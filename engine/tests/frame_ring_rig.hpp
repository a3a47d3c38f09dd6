// Rings at the end `wan` of the cable of `own_network.hpp`, and the frames of ESP that are sent to them from `core`.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "bpf_ring.hpp"
#include "error.hpp"
#include "own_network.hpp"

namespace groupvpn::test {

inline constexpr MacAddress token = {0x02, 0x47, 0x44, 0x4f, 0x49, 0x77};
inline constexpr std::uint32_t mtu = 1500;

// One ring, whose thread is woken by a bell.
inline std::vector<std::unique_ptr<FrameRing>> bpf_rings() { return BpfRing::make(Device::named("wan"), token, mtu, std::array{-1}); }

// Linux 6.6 and later. A program that the kernel refuses is no reason to skip a test.
inline bool has_tcx() {
  try {
    const auto rings = bpf_rings();
    return true;
  } catch (const EngineError& error) {
    if (std::string(error.what()).find("BPF link") == std::string::npos) throw;
    return cannot_have(std::string("a ring that a BPF program fills: ") + error.what());
  }
}

inline Octets esp(std::uint32_t spi, std::uint32_t size = 60, Header header = {}) {
  Octets payload(size);
  store32(payload.data(), spi);
  store32(&payload[4], size);
  header.protocol = protocol_esp;
  return frame_around(ipv4(payload, header));
}

inline void take(FrameRing& ring, std::vector<std::uint32_t> spis) {
  std::ranges::sort(spis);
  std::vector<TakenSpi> taken;
  for (const std::uint32_t spi : spis) taken.push_back({spi, Spread::by_addresses});
  ring.set_spis(taken);
}

template <typename Ring>
bool has_come(const Ring& ring) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(3);
  while (!ring.has() && std::chrono::steady_clock::now() < deadline) std::this_thread::sleep_for(std::chrono::microseconds(50));
  return ring.has();
}

}  // namespace groupvpn::test
