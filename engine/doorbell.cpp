#include "doorbell.hpp"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>

#include "bpf.hpp"
#include "error.hpp"

namespace groupvpn {
namespace {

std::size_t page_size() noexcept { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }

std::atomic_ref<std::uint64_t> position(const Mapping& page) noexcept { return std::atomic_ref(*reinterpret_cast<std::uint64_t*>(page.octets())); }

}  // namespace

// The kernel lets one page be written, which says how far we have read, and the next one be read, which says how far it has written.
Doorbell::Doorbell()
    : map_(bpf::make_ring_buffer("groupvpn_bell", static_cast<std::uint32_t>(page_size()))),
      consumer_(page_size(), map_.number(), 0),
      producer_(page_size(), map_.number(), page_size(), Mapping::Access::read) {
  if (consumer_.octets() == nullptr || producer_.octets() == nullptr) throw EngineError(describe_error("BPF map", errno));
}

void Doorbell::silence() noexcept { position(consumer_).store(position(producer_).load(std::memory_order_acquire), std::memory_order_release); }

}  // namespace groupvpn
