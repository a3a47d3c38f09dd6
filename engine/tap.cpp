#include "tap.hpp"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "error.hpp"

namespace groupvpn {
namespace {

// Newer than Debian 12's headers; the kernel takes both or none.
constexpr unsigned offload_udp = 0x20 | 0x40;  // TUN_F_USO4 | TUN_F_USO6
constexpr unsigned offload_tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;

[[noreturn]] void fail(int descriptor, const std::string& what) {
  throw EngineError("file descriptor " + std::to_string(descriptor) + ": " + what);
}

void set_offload(int descriptor, TapOffload offload) {
  if (offload == TapOffload::none) {
    ioctl(descriptor, TUNSETOFFLOAD, 0UL);
    return;
  }
  // Kernels before 6.2 know no UDP super-packets.
  if (ioctl(descriptor, TUNSETOFFLOAD, static_cast<unsigned long>(offload_tcp | offload_udp)) == 0) return;
  if (ioctl(descriptor, TUNSETOFFLOAD, static_cast<unsigned long>(offload_tcp)) == 0) return;
  fail(descriptor, std::string("TUNSETOFFLOAD: ") + std::strerror(errno));
}

}  // namespace

Tap::Tap(int descriptor, TapOffload offload) : descriptor_(descriptor), header_size_(0) {
  ifreq request{};
  if (ioctl(descriptor, TUNGETIFF, &request) != 0) fail(descriptor, std::string("no TAP device: ") + std::strerror(errno));
  const int wanted = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  if ((request.ifr_flags & wanted) != wanted) fail(descriptor, "needs IFF_TAP, IFF_NO_PI and IFF_VNET_HDR");
  int header_size = 0;
  if (ioctl(descriptor, TUNGETVNETHDRSZ, &header_size) != 0) fail(descriptor, std::string("TUNGETVNETHDRSZ: ") + std::strerror(errno));
  header_size_ = static_cast<std::size_t>(header_size);
  if (header_size_ < 10 || header_size_ > maximum_header_size) fail(descriptor, "virtio header of " + std::to_string(header_size) + " octets");
  const int flags = fcntl(descriptor, F_GETFL);
  if (flags < 0 || fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) != 0) fail(descriptor, std::string("O_NONBLOCK: ") + std::strerror(errno));
  set_offload(descriptor, offload);
}

ssize_t Tap::read(std::span<std::uint8_t> into) const noexcept { return ::read(descriptor_, into.data(), into.size()); }

bool Tap::write(std::uint8_t* frame, std::size_t length) const noexcept {
  std::memset(frame - header_size_, 0, header_size_);
  const ssize_t wanted = static_cast<ssize_t>(header_size_ + length);
  return ::write(descriptor_, frame - header_size_, static_cast<std::size_t>(wanted)) == wanted;
}

}  // namespace groupvpn
