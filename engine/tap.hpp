// A TAP device by a file descriptor that somebody else opened and keeps: frames with a virtio header before each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <sys/types.h>
#include <sys/uio.h>

#include "offload.hpp"

namespace groupvpn {

enum class TapOffload : std::uint8_t {
  none,
  udp,            // ask for UDP super-packets of up to 64 KiB and for checksums left to us
  super_packets,  // the same of TCP and UDP
};

class Tap {
 public:
  // The longest virtio header we accept (struct virtio_net_hdr_mrg_rxbuf).
  static constexpr std::size_t maximum_header_size = 12;

  // EngineError if `descriptor` is no TAP with IFF_NO_PI and IFF_VNET_HDR.
  Tap(int descriptor, TapOffload offload);

  [[nodiscard]] int descriptor() const noexcept { return descriptor_; }
  [[nodiscard]] std::size_t header_size() const noexcept { return header_size_; }

  // Virtio header and frame; -1 with errno EAGAIN when there is none.
  ssize_t read(std::span<std::uint8_t> into) const noexcept;
  // Whether super-packets of UDP may be written, which the kernel takes since 6.2.
  [[nodiscard]] bool takes_udp_super_packets() const noexcept { return takes_udp_; }
  // A frame in parts. The first part is preceded by `header_size()` octets that may be overwritten; `parts` is changed.
  bool write(const Offload& offload, std::span<iovec> parts) const noexcept;

 private:
  int descriptor_;
  std::size_t header_size_;
  bool takes_udp_;
};

}  // namespace groupvpn
