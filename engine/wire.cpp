#include "wire.hpp"

#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if.h>
#include <poll.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>

#include "error.hpp"

namespace groupvpn {
namespace {

[[noreturn]] void fail(const std::string& device, const char* what) {
  throw EngineError("interface \"" + device + "\": " + what + ": " + std::strerror(errno));
}

}  // namespace

Wire::Wire(const std::string& device, std::uint32_t mark, FrameHeader header) {
  socket_ = Descriptor(socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));  // protocol 0: it receives nothing
  if (socket_.number() < 0) fail(device, "no packet socket");
  ifreq request{};
  if (device.empty() || device.size() >= sizeof request.ifr_name) throw EngineError("\"" + device + "\" is no interface name");
  std::memcpy(request.ifr_name, device.data(), device.size());
  if (ioctl(socket_.number(), SIOCGIFHWADDR, &request) != 0) fail(device, "no such interface");
  if (request.ifr_hwaddr.sa_family != ARPHRD_ETHER) throw EngineError("interface \"" + device + "\" is not Ethernet");
  if (ioctl(socket_.number(), SIOCGIFINDEX, &request) != 0) fail(device, "no index");

  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_ifindex = request.ifr_ifindex;
  if (bind(socket_.number(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) fail(device, "cannot bind");
  const int yes = 1;
  if (setsockopt(socket_.number(), SOL_PACKET, PACKET_QDISC_BYPASS, &yes, sizeof yes) != 0) fail(device, "PACKET_QDISC_BYPASS");
  const bool has_header = header == FrameHeader::virtio;
  if (has_header && setsockopt(socket_.number(), SOL_PACKET, PACKET_VNET_HDR, &yes, sizeof yes) != 0) fail(device, "PACKET_VNET_HDR");
  if (mark != 0 && setsockopt(socket_.number(), SOL_SOCKET, SO_MARK, &mark, sizeof mark) != 0) fail(device, "SO_MARK");
  const int buffer = 4 << 20;
  setsockopt(socket_.number(), SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer);  // a smaller one only makes us wait earlier
}

std::size_t Wire::send(std::span<mmsghdr> frames) noexcept {
  std::size_t sent = 0;
  int waited = 0;
  while (sent < frames.size()) {
    const int count = sendmmsg(socket_.number(), frames.data() + sent, static_cast<unsigned>(frames.size() - sent), 0);
    if (count > 0) {
      sent += static_cast<std::size_t>(count);
      waited = 0;
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN || waited >= patience) return sent;
    pollfd writable{socket_.number(), POLLOUT, 0};
    poll(&writable, 1, 10);
    waited += 10;
  }
  return sent;
}

}  // namespace groupvpn
