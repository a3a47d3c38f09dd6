#include "device.hpp"

#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_arp.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "error.hpp"

namespace groupvpn {
namespace {

constexpr const char* own_network = "/proc/thread-self/ns/net";

}  // namespace

Device Device::named(const std::string& name) {
  const std::string where = "interface \"" + name + "\"";
  ifreq request{};
  if (name.empty() || name.size() >= sizeof request.ifr_name) throw EngineError("\"" + name + "\" is no interface name");
  std::memcpy(request.ifr_name, name.data(), name.size());
  const Descriptor control(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (control.number() < 0) throw EngineError(where + ": " + describe_error("socket", errno));
  if (ioctl(control.number(), SIOCGIFHWADDR, &request) != 0) throw EngineError(where + ": " + describe_error("no such interface", errno));
  if (request.ifr_hwaddr.sa_family != ARPHRD_ETHER) throw EngineError(where + " is not Ethernet");
  if (ioctl(control.number(), SIOCGIFINDEX, &request) != 0) throw EngineError(where + ": " + describe_error("no index", errno));
  return {name, request.ifr_ifindex};
}

Device Device::of_tap(int descriptor) {
  ifreq request{};
  if (ioctl(descriptor, TUNGETIFF, &request) != 0) throw EngineError(describe_error("TUNGETIFF", errno));
  const Descriptor network(ioctl(descriptor, TUNGETDEVNETNS, nullptr));
  struct stat found {};
  if (network.number() < 0 || fstat(network.number(), &found) != 0) throw EngineError(describe_error("TUNGETDEVNETNS", errno));
  if (found.st_ino != network_namespace()) throw EngineError(std::string("TAP \"") + request.ifr_name + "\" is in another network namespace");
  return named(request.ifr_name);
}

std::size_t Device::transmit_queues() const noexcept {
  ethtool_channels channels{};
  channels.cmd = ETHTOOL_GCHANNELS;
  ifreq request{};
  std::memcpy(request.ifr_name, name.data(), std::min(name.size(), sizeof request.ifr_name - 1));
  request.ifr_data = reinterpret_cast<char*>(&channels);
  const Descriptor control(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (control.number() < 0 || ioctl(control.number(), SIOCETHTOOL, &request) != 0) return 1;
  return std::max<std::size_t>(std::size_t{channels.tx_count} + channels.combined_count, 1);
}

std::uint64_t network_namespace() noexcept {
  struct stat found;
  return stat(own_network, &found) == 0 ? found.st_ino : 0;
}

Descriptor open_network_namespace() noexcept { return Descriptor(open(own_network, O_RDONLY | O_CLOEXEC)); }

void enter(const Descriptor& network) noexcept {
  struct stat found;
  if (fstat(network.number(), &found) == 0 && found.st_ino != network_namespace()) setns(network.number(), CLONE_NEWNET);
}

}  // namespace groupvpn
