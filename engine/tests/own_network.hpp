// A network namespace of the test's own, with two ends of a cable in it, `wan` and `core`; it is gone when the tests end.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "build.hpp"
#include "descriptor.hpp"
#include "harness.hpp"

namespace groupvpn::test {

inline bool has_own_network() {
  static const bool is_ready = [] {
    if (geteuid() != 0 || unshare(CLONE_NEWNET) != 0) return false;
    return std::system("ip link add name wan address 02:00:00:00:00:01 type veth peer name core && ip link set wan up && ip link set core up") == 0;
  }();
  if (!is_ready) fail(__FILE__, __LINE__, "needs root and network namespaces");
  return is_ready;
}

// False, and a reason to skip, if the kernel is older than Linux 6.6, which has tcx; a failure if it should be able to.
inline bool cannot_have(const std::string& what) {
  utsname system{};
  int major = 0, minor = 0;
  if (uname(&system) == 0 && std::sscanf(system.release, "%d.%d", &major, &minor) == 2 && (major < 6 || (major == 6 && minor < 6))) {
    skip(what);
  } else {
    fail(__FILE__, __LINE__, what);
  }
  return false;
}

inline std::vector<Descriptor> open_tap(const char* name, std::size_t queues) {
  std::vector<Descriptor> taps;
  for (std::size_t queue = 0; queue < queues; ++queue) {
    taps.emplace_back(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
    ifreq request{};
    std::strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | 0x4000 | (queues > 1 ? IFF_MULTI_QUEUE : 0));  // IFF_VNET_HDR
    if (ioctl(taps.back().number(), TUNSETIFF, &request) != 0) fail(__FILE__, __LINE__, "TUNSETIFF");
  }
  const std::string command = std::string("sysctl -qw net.ipv6.conf.") + name + ".disable_ipv6=1; ip link set " + name + " txqueuelen 10000 up";
  if (std::system(command.c_str()) != 0) fail(__FILE__, __LINE__, "cannot bring up a TAP");
  return taps;
}

inline Descriptor open_tap(const char* name) { return std::move(open_tap(name, 1).front()); }

inline void run(const std::string& command) {
  if (std::system(command.c_str()) != 0) fail(__FILE__, __LINE__, command);
}

// What the kernel counts of a device: a column of /proc/net/dev.
inline constexpr int tx_packets = 10, tx_dropped = 12;
inline std::uint64_t statistic_of(const std::string& device, int column) {
  std::ifstream devices("/proc/thread-self/net/dev");
  for (std::string word; devices >> word;) {
    if (word != device + ":") continue;
    std::uint64_t value = 0;
    for (; column > 0; --column) devices >> value;
    return value;
  }
  return 0;
}

// A packet socket on one device.
class Ear {
 public:
  explicit Ear(const char* device, std::uint16_t ethertype = ETH_P_IP) : socket_(socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ethertype))) {
    const int buffer = 32 << 20;
    setsockopt(socket_.number(), SOL_SOCKET, 33, &buffer, sizeof buffer);  // SO_RCVBUFFORCE
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ethertype);
    address.sll_ifindex = static_cast<int>(if_nametoindex(device));
    if (bind(socket_.number(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) fail(__FILE__, __LINE__, "bind");
  }
  void send(const Octets& frame) const {
    const ssize_t sent = ::send(socket_.number(), frame.data(), frame.size(), 0);
    if (sent != static_cast<ssize_t>(frame.size()) && errno != ENOBUFS) fail(__FILE__, __LINE__, "send");  // ENOBUFS: a program at a TAP has it
  }
  // The next frame that came in (not one that we sent), empty after `milliseconds` without.
  [[nodiscard]] Octets receive(int milliseconds = 3000) const {
    while (true) {
      pollfd readable{socket_.number(), POLLIN, 0};
      if (poll(&readable, 1, milliseconds) <= 0) return {};
      Octets frame(70000);
      sockaddr_ll from{};
      socklen_t size = sizeof from;
      const ssize_t length = recvfrom(socket_.number(), frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
      if (length <= 0 || from.sll_pkttype == PACKET_OUTGOING) continue;
      frame.resize(static_cast<std::size_t>(length));
      return frame;
    }
  }

 private:
  Descriptor socket_;
};

// Sends a frame of which the kernel has nothing but the link header in one piece and the rest in pages, as drivers hand in what a device wrote into pages.
inline void send_in_pages(const char* device, const Octets& frame) {
  constexpr std::uint32_t size = 1 << 16;
  const Descriptor sender(socket(AF_PACKET, SOCK_RAW, 0));
  const int version = TPACKET_V2;
  const tpacket_req request{size, 1, size, 1};
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  std::memcpy(&address.sll_protocol, &frame[12], sizeof address.sll_protocol);
  address.sll_ifindex = static_cast<int>(if_nametoindex(device));
  if (setsockopt(sender.number(), SOL_PACKET, PACKET_VERSION, &version, sizeof version) != 0 ||
      setsockopt(sender.number(), SOL_PACKET, PACKET_TX_RING, &request, sizeof request) != 0 ||
      bind(sender.number(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return fail(__FILE__, __LINE__, "PACKET_TX_RING");
  }
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, sender.number(), 0);
  if (memory == MAP_FAILED) return fail(__FILE__, __LINE__, "mmap");
  auto* header = static_cast<tpacket2_hdr*>(memory);
  std::copy(frame.begin(), frame.end(), static_cast<std::uint8_t*>(memory) + TPACKET2_HDRLEN - sizeof(sockaddr_ll));
  header->tp_len = static_cast<std::uint32_t>(frame.size());
  header->tp_status = TP_STATUS_SEND_REQUEST;
  // Waits until nobody has the frame any more. ENOBUFS: a program has it.
  if (::send(sender.number(), nullptr, 0, 0) < 0 && errno != ENOBUFS) fail(__FILE__, __LINE__, "send");
  munmap(memory, size);
}

inline Octets frame_around(const Octets& packet) {
  const Octets link = {0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x08, 0x00};
  Octets frame(link.size() + packet.size());
  std::copy(packet.begin(), packet.end(), std::copy(link.begin(), link.end(), frame.begin()));
  return frame;
}

}  // namespace groupvpn::test
