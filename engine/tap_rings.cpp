#include "tap_rings.hpp"

#include <linux/if_tun.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <string>

#include "bpf.hpp"
#include "device.hpp"
#include "error.hpp"

namespace groupvpn {

std::uint64_t TapRings::overruns() const noexcept {
  std::uint64_t sum = 0;
  for (std::uint32_t worker = 0; worker < workers_; ++worker) sum += ring(worker).overruns();
  return sum;
}

Descriptor TapRings::attach(std::span<const int> tap_queues, std::size_t queue) const {
  if (queue >= maximum_queues) throw EngineError("no more than " + std::to_string(maximum_queues) + " outbound TAPs in the life of a port");
  const Device device = Device::of_tap(tap_queues.front());
  if (workers_ > 1) {
    const Descriptor program = bpf::load(BPF_PROG_TYPE_SOCKET_FILTER, "groupvpn_flow", flow_queue_program(workers_));
    int number = program.number();
    if (ioctl(tap_queues.front(), TUNSETSTEERINGEBPF, &number) != 0) throw EngineError(describe_error("TUNSETSTEERINGEBPF", errno));
  }
  const auto program = tap_program(memory_.maps(), longest_frame(), workers_, static_cast<std::uint32_t>(queue));
  return bpf::attach(bpf::load(BPF_PROG_TYPE_SCHED_CLS, "groupvpn_out", program), bpf::Hook::egress, device.index);
}

}  // namespace groupvpn
