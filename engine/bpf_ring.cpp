#include "bpf_ring.hpp"

#include <linux/if_tun.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>

#include "bpf.hpp"
#include "error.hpp"
#include "esp_program.hpp"

namespace groupvpn {
namespace {

// A thread that shares its processor may have to wait for it for milliseconds. With twice as much UDP of 1400 octets got 5 per cent more through, but a member is to
// stay small; with half of it 13 per cent less.
constexpr std::uint32_t ring_size = 8 << 20;

Descriptor make_bells(const std::vector<Doorbell>& bells) {
  Descriptor map = bpf::make_ring_buffers("groupvpn_bells", bells.front().map(), static_cast<std::uint32_t>(bells.size()));
  for (std::uint32_t ring = 0; ring < bells.size(); ++ring) {
    const int bell = bells[ring].descriptor();
    bpf::set_entry(map, &ring, &bell);
  }
  return map;
}

// The number of the TAP's device, or 0.
int device_of(std::span<const int> tap_queues) { return tap_queues.front() < 0 ? 0 : Device::of_tap(tap_queues.front()).index; }

// The program goes with the TAP.
void steer_queues(std::span<const int> queues, const Descriptor& spis, const MacAddress& token) {
  const auto count = static_cast<std::uint32_t>(queues.size());
  const Descriptor program = bpf::load(BPF_PROG_TYPE_SOCKET_FILTER, "groupvpn_queue", queue_program(spis, token, count));
  int number = program.number();
  if (ioctl(queues.front(), TUNSETSTEERINGEBPF, &number) != 0) throw EngineError(describe_error("TUNSETSTEERINGEBPF", errno));
}

}  // namespace

BpfIngress::BpfIngress(const Device& device, const MacAddress& token, std::uint32_t mtu, std::span<const int> tap_queues)
    : memory_(static_cast<std::uint32_t>(tap_queues.size()), mtu, ring_size),
      bells_(tap_queues.size()),
      spis_(bpf::make_hash("groupvpn_spis", sizeof(std::uint32_t), 1, maximum_spis)) {
  const auto rings = static_cast<std::uint32_t>(tap_queues.size());
  if (rings > 1) steer_queues(tap_queues, spis_, token);
  const Descriptor bells = make_bells(bells_);
  program_ = bpf::load(BPF_PROG_TYPE_SCHED_CLS, "groupvpn_esp", esp_program({memory_.maps(), spis_, bells}, token, memory_.longest_frame(), rings, device_of(tap_queues)));
  link_ = bpf::attach(program_, bpf::Hook::ingress, device.index);
  program_number_ = bpf::number_of(program_);
}

// Each change is noted as it is made, so that when one fails the next call goes on from what there is.
void BpfIngress::set_spis(std::span<const TakenSpi> spis) {
  std::erase_if(taken_spis_, [this, spis](const TakenSpi& taken) {
    if (std::ranges::binary_search(spis, taken.spi, {}, &TakenSpi::spi)) return false;
    const std::uint32_t key = __builtin_bswap32(taken.spi);
    bpf::delete_entry(spis_, &key);
    return true;
  });
  taken_spis_.reserve(spis.size());
  for (const TakenSpi& wanted : spis) {
    const auto place = std::ranges::lower_bound(taken_spis_, wanted.spi, {}, &TakenSpi::spi);
    const bool is_taken = place != taken_spis_.end() && place->spi == wanted.spi;
    if (is_taken && *place == wanted) continue;
    const std::uint32_t key = __builtin_bswap32(wanted.spi);
    bpf::set_entry(spis_, &key, &wanted.spread);
    if (is_taken) {
      *place = wanted;
    } else {
      taken_spis_.insert(place, wanted);
    }
  }
}

std::vector<std::unique_ptr<FrameRing>> BpfRing::make(const Device& device, const MacAddress& token, std::uint32_t mtu, std::span<const int> tap_queues) {
  const auto ingress = std::make_shared<BpfIngress>(device, token, mtu, tap_queues);
  std::vector<std::unique_ptr<FrameRing>> rings;
  for (std::uint32_t number = 0; number < tap_queues.size(); ++number) rings.push_back(std::make_unique<BpfRing>(ingress, number));
  return rings;
}

void BpfRing::rise() noexcept {
  ring_.rise();
  bell_.silence();
}

FrameRing::Frame BpfRing::take() noexcept {
  const SharedRing::Record record = ring_.take();
  const bool is_whole = record.length != 0 && record.length <= ingress_->memory().longest_frame();
  return Frame{record.frame, record.length, RingLayout::frame_offset - RingLayout::header_size, is_whole};
}

}  // namespace groupvpn
