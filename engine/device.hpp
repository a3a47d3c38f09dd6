// The Ethernet interface that a port serves, as the kernel knows it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "descriptor.hpp"

namespace groupvpn {

using MacAddress = std::array<std::uint8_t, 6>;

// With so many octets of one random address begins the source of every frame that a port gives to the kernel; the others say what is in it.
inline constexpr std::size_t token_prefix_size = 4;

struct Device {
  std::string name;
  int index;

  // EngineError if there is no such interface, or if it is not Ethernet.
  static Device named(const std::string& name);
  // That of a TAP by its descriptor. EngineError unless it is where the calling thread is: in another network namespace its name would be
  // that of another one.
  static Device of_tap(int descriptor);

  // How many queues it sends by, as it says itself; 1 if it does not.
  [[nodiscard]] std::size_t transmit_queues() const noexcept;
};

// Tells the network namespace of the calling thread from others; 0 if /proc does not say.
std::uint64_t network_namespace() noexcept;

// That of the calling thread, for `enter`; no descriptor if /proc does not say.
Descriptor open_network_namespace() noexcept;
// Has the calling thread be there. Without the right to it (CAP_SYS_ADMIN) the thread stays where it is.
void enter(const Descriptor& network) noexcept;

}  // namespace groupvpn
