#include "bpf_ring.hpp"

#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "bpf.hpp"
#include "error.hpp"

namespace groupvpn {
namespace {

using Layout = EspProgramLayout;

// An odd number of cache lines, so that the headers of frames do not compete for the same sets.
std::uint32_t slot_size_for(std::uint32_t mtu) { return ((Layout::ip_offset + std::max(mtu, 1500U) + 63) / 64 | 1) * 64; }

// The program goes with the TAP.
void steer_queues(std::span<const int> queues, const Descriptor& spis) {
  const auto count = static_cast<std::uint32_t>(queues.size());
  const Descriptor program = bpf::load(BPF_PROG_TYPE_SOCKET_FILTER, "groupvpn_queue", queue_program(spis, count));
  int number = program.number();
  if (ioctl(queues.front(), TUNSETSTEERINGEBPF, &number) != 0) throw EngineError(describe_error("TUNSETSTEERINGEBPF", errno));
}

}  // namespace

BpfIngress::BpfIngress(const Device& device, const MacAddress& token, std::uint32_t mtu, std::span<const int> tap_queues)
    : slot_size_(slot_size_for(mtu)) {
  const auto rings = static_cast<std::uint32_t>(tap_queues.size());
  controls_ = bpf::make_array("groupvpn_ctl", Layout::control_size, rings);
  slots_ = bpf::make_array("groupvpn_ring", slot_size_, rings * Layout::slot_count);
  spis_ = bpf::make_hash("groupvpn_spis", sizeof(std::uint32_t), 1, maximum_spis);
  controls_memory_ = Mapping(std::size_t{rings} * Layout::control_size, controls_.number(), 0);
  slots_memory_ = Mapping(std::size_t{rings} * Layout::slot_count * slot_size_, slots_.number(), 0);
  if (controls_memory_.octets() == nullptr || slots_memory_.octets() == nullptr) throw EngineError(describe_error("BPF map", errno));
  for (std::uint32_t ring = 0; ring < rings; ++ring) {
    std::atomic_ref(*reinterpret_cast<std::uint32_t*>(control(ring) + Layout::resting)).store(1);
  }
  if (rings > 1) steer_queues(tap_queues, spis_);
  const std::uint32_t longest = slot_size_ - Layout::frame_offset;
  program_ = bpf::load(BPF_PROG_TYPE_SCHED_CLS, "groupvpn_esp", esp_program({controls_, slots_, spis_}, token, longest, rings));
  link_ = bpf::attach_to_ingress(program_, device.index);
}

void BpfIngress::set_spis(std::span<const TakenSpi> spis) {
  const auto find = [](std::span<const TakenSpi> all, const TakenSpi& one) {
    const auto found = std::ranges::lower_bound(all, one.spi, {}, &TakenSpi::spi);
    return found != all.end() && found->spi == one.spi ? &*found : nullptr;
  };
  for (const TakenSpi& wanted : spis) {
    const TakenSpi* taken = find(taken_spis_, wanted);
    if (taken != nullptr && *taken == wanted) continue;
    const std::uint32_t key = __builtin_bswap32(wanted.spi);
    bpf::set_entry(spis_, &key, &wanted.spread);
  }
  for (const TakenSpi& taken : taken_spis_) {
    if (find(spis, taken) != nullptr) continue;
    const std::uint32_t key = __builtin_bswap32(taken.spi);
    bpf::delete_entry(spis_, &key);
  }
  taken_spis_.assign(spis.begin(), spis.end());
}

std::vector<std::unique_ptr<FrameRing>> BpfRing::make(const Device& device, const MacAddress& token, std::uint32_t mtu, std::span<const int> tap_queues) {
  const auto ingress = std::make_shared<BpfIngress>(device, token, mtu, tap_queues);
  std::vector<std::unique_ptr<FrameRing>> rings;
  for (std::uint32_t number = 0; number < tap_queues.size(); ++number) rings.push_back(std::make_unique<BpfRing>(ingress, number));
  return rings;
}

std::uint64_t BpfRing::overruns() const noexcept { return word<std::uint64_t>(control_ + Layout::overruns).load(std::memory_order_relaxed); }

void BpfRing::rise() noexcept { word<std::uint32_t>(control_ + Layout::resting).store(0, std::memory_order_release); }

// Either the program sees that we rest when it has claimed a slot, or we see that it has claimed one.
bool BpfRing::rest() noexcept {
  word<std::uint32_t>(control_ + Layout::resting).store(1, std::memory_order_seq_cst);
  return word<std::uint32_t>(control_ + Layout::producer).load(std::memory_order_seq_cst) == next_;
}

bool BpfRing::has(std::uint32_t ahead) const noexcept {
  return word<std::uint32_t>(slot(ahead) + Layout::state).load(std::memory_order_acquire) != Layout::unfilled;
}

std::optional<FrameRing::Frame> BpfRing::frame(std::uint32_t ahead) const noexcept {
  std::uint8_t* octets = slot(ahead);
  std::uint32_t state, length;
  std::memcpy(&state, octets + Layout::state, sizeof state);
  std::memcpy(&length, octets + Layout::length, sizeof length);
  if (state == Layout::left) return std::nullopt;
  const bool is_whole = length != 0 && length <= ingress_->slot_size() - Layout::frame_offset;
  return Frame{octets + Layout::frame_offset, length, Layout::frame_offset - Layout::slot_header_size, is_whole};
}

void BpfRing::release(std::uint32_t count) noexcept {
  for (std::uint32_t ahead = 0; ahead < count; ++ahead) {
    word<std::uint32_t>(slot(ahead) + Layout::state).store(Layout::unfilled, std::memory_order_relaxed);
  }
  next_ += count;
  word<std::uint32_t>(control_ + Layout::consumer).store(next_, std::memory_order_release);
}

}  // namespace groupvpn
