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

// Says what may be read from the TAP. Returns whether the kernel knows UDP super-packets, which it does not before 6.2.
bool set_offload(int descriptor, TapOffload offload) {
  const auto set = [descriptor](unsigned flags) { return ioctl(descriptor, TUNSETOFFLOAD, static_cast<unsigned long>(flags)) == 0; };
  const bool knows_udp = set(offload_tcp | offload_udp);
  if (offload == TapOffload::none || (offload == TapOffload::udp && !knows_udp)) {
    set(0);
  } else if (offload == TapOffload::udp && !set(TUN_F_CSUM | offload_udp)) {
    fail(descriptor, describe_error("TUNSETOFFLOAD", errno));
  } else if (offload == TapOffload::super_packets && !knows_udp && !set(offload_tcp)) {
    fail(descriptor, describe_error("TUNSETOFFLOAD", errno));
  }
  return knows_udp;
}

}  // namespace

Tap::Tap(int descriptor, TapOffload offload) : descriptor_(descriptor), header_size_(0), takes_udp_(false) {
  ifreq request{};
  if (ioctl(descriptor, TUNGETIFF, &request) != 0) fail(descriptor, describe_error("no TAP device", errno));
  const int wanted = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  if ((request.ifr_flags & wanted) != wanted) fail(descriptor, "needs IFF_TAP, IFF_NO_PI and IFF_VNET_HDR");
  int header_size = 0;
  if (ioctl(descriptor, TUNGETVNETHDRSZ, &header_size) != 0) fail(descriptor, describe_error("TUNGETVNETHDRSZ", errno));
  header_size_ = static_cast<std::size_t>(header_size);
  if (header_size_ < 10 || header_size_ > maximum_header_size) fail(descriptor, "virtio header of " + std::to_string(header_size) + " octets");
  const int flags = fcntl(descriptor, F_GETFL);
  if (flags < 0 || fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) != 0) fail(descriptor, describe_error("O_NONBLOCK", errno));
  takes_udp_ = set_offload(descriptor, offload);
}

ssize_t Tap::read(std::span<std::uint8_t> into) const noexcept { return ::read(descriptor_, into.data(), into.size()); }

bool Tap::write(const Offload& offload, std::span<iovec> parts) const noexcept {
  std::uint8_t* header = static_cast<std::uint8_t*>(parts.front().iov_base) - header_size_;
  std::memset(header, 0, header_size_);
  offload.write(header);
  parts.front() = {header, parts.front().iov_len + header_size_};
  std::size_t wanted = 0;
  for (const iovec& part : parts) wanted += part.iov_len;
  return ::writev(descriptor_, parts.data(), static_cast<int>(parts.size())) == static_cast<ssize_t>(wanted);
}

}  // namespace groupvpn
