#include "xdp_transmitter.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "error.hpp"

namespace groupvpn {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int level = 283;                    // SOL_XDP, which older libc headers do not name
constexpr int maximum_transmit_budget = 9;    // XDP_MAX_TX_SKB_BUDGET, Linux 6.17: frames for each call, 32 without it
constexpr auto release_time = std::chrono::milliseconds(100);
constexpr auto pause = std::chrono::microseconds(20);  // for an interface whose queue is full

std::uint32_t chunk_size_for(std::size_t slot_size, std::uint32_t shift) {
  for (const std::uint32_t size : {2048U, 4096U}) {  // the kernel wants a power of two, and at most a page
    if (slot_size + shift <= size) return size;
  }
  throw EngineError("frames of " + std::to_string(slot_size) + " octets do not fit its buffers of 4096");
}

void set_option(int socket, int option, std::uint32_t value, const char* what) {
  if (setsockopt(socket, level, option, &value, sizeof value) != 0) throw EngineError(describe_error(what, errno));
}

}  // namespace

XdpTransmitter::XdpTransmitter(const Device& device, std::uint32_t queue, std::size_t slot_size, bool is_patient)
    : chunk_size_(chunk_size_for(slot_size, largest_shift)),
      umem_(std::size_t{chunk_count} * chunk_size_, -1, 0),
      socket_(socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0)) {
  if (socket_.number() < 0) throw EngineError(describe_error("no AF_XDP socket", errno));
  if (umem_.octets() == nullptr) throw EngineError("no memory for AF_XDP");
  make_rings();
  bind_to(device, queue, is_patient);
  const int buffer = 4 << 20;
  setsockopt(socket_.number(), SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer);
  const std::uint32_t budget = burst_size;
  setsockopt(socket_.number(), level, maximum_transmit_budget, &budget, sizeof budget);  // else a burst takes more calls
  held_.fill(none);
  for (std::uint32_t chunk = chunk_count; chunk > 0; --chunk) free_.push_back(static_cast<std::uint16_t>(chunk - 1));
}

void XdpTransmitter::make_rings() {
  xdp_umem_reg registration{};
  registration.addr = reinterpret_cast<std::uint64_t>(umem_.octets());
  registration.len = std::uint64_t{chunk_count} * chunk_size_;
  registration.chunk_size = chunk_size_;
  if (setsockopt(socket_.number(), level, XDP_UMEM_REG, &registration, sizeof registration) != 0) {
    throw EngineError(describe_error("UMEM", errno));  // ENOBUFS: RLIMIT_MEMLOCK, for who lacks CAP_IPC_LOCK
  }
  set_option(socket_.number(), XDP_UMEM_FILL_RING, 64, "fill ring");  // not used, but must be there
  set_option(socket_.number(), XDP_UMEM_COMPLETION_RING, chunk_count, "completion ring");
  set_option(socket_.number(), XDP_TX_RING, ring_size, "transmit ring");
  xdp_mmap_offsets offsets{};
  socklen_t size = sizeof offsets;
  if (getsockopt(socket_.number(), level, XDP_MMAP_OFFSETS, &offsets, &size) != 0 || size != sizeof offsets) {
    throw EngineError("the kernel does not say where its AF_XDP rings are");  // before Linux 5.4
  }
  transmit_.map(socket_.number(), offsets.tx, ring_size, XDP_PGOFF_TX_RING);
  completion_.map(socket_.number(), offsets.cr, chunk_count, XDP_UMEM_PGOFF_COMPLETION_RING);
}

template <typename Entry>
void XdpTransmitter::Ring<Entry>::map(int socket, const xdp_ring_offset& offsets, std::uint32_t size, std::uint64_t page) {
  memory = Mapping(offsets.desc + size * sizeof(Entry), socket, page);
  if (memory.octets() == nullptr) throw EngineError(describe_error("AF_XDP ring", errno));
  producer = reinterpret_cast<std::atomic<std::uint32_t>*>(memory.octets() + offsets.producer);
  consumer = reinterpret_cast<std::atomic<std::uint32_t>*>(memory.octets() + offsets.consumer);
  entries = reinterpret_cast<Entry*>(memory.octets() + offsets.desc);
}

void XdpTransmitter::bind_to(const Device& device, std::uint32_t queue, bool is_patient) const {
  sockaddr_xdp address{};
  address.sxdp_family = AF_XDP;
  address.sxdp_ifindex = static_cast<std::uint32_t>(device.index);
  address.sxdp_queue_id = queue;
  address.sxdp_flags = XDP_COPY;
  const auto deadline = Clock::now() + (is_patient ? release_time : release_time * 0);
  while (bind(socket_.number(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno == ENETDOWN) throw EngineBusy(describe_error("bind", errno));
    if (errno != EBUSY) throw EngineError(describe_error("bind", errno));
    if (Clock::now() >= deadline) throw EngineBusy("another AF_XDP socket has the queue");
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

// Chunks shifted against each other by some cache lines: at the same place of each page, all headers would compete for the same sets.
std::uint8_t* XdpTransmitter::slot(std::size_t index) noexcept {
  if (held_[index] == none) {
    if (free_.empty()) reap();
    if (free_.empty()) return nullptr;
    held_[index] = free_.back();
    free_.pop_back();
  }
  const std::uint32_t chunk = held_[index];
  return umem_.octets() + std::size_t{chunk} * chunk_size_ + chunk % (largest_shift / 64 + 1) * 64;
}

bool XdpTransmitter::send(std::span<OutgoingFrame> frames) noexcept {
  const std::uint32_t first = transmit_.producer->load(std::memory_order_relaxed);
  const std::uint32_t count = push(frames);
  const bool is_good = count == 0 || kick(std::span(pushed_).first(count), first);
  reap();
  return is_good;
}

std::uint32_t XdpTransmitter::push(std::span<OutgoingFrame> frames) noexcept {
  const std::uint32_t first = transmit_.producer->load(std::memory_order_relaxed);
  std::uint32_t count = 0;
  for (OutgoingFrame& frame : frames) {
    held_[frame.slot] = none;
    xdp_desc& entry = transmit_.entries[(first + count) % ring_size];
    entry.addr = static_cast<std::uint64_t>(frame.data - umem_.octets());
    entry.len = frame.length;
    entry.options = 0;
    pushed_[count++] = &frame;
  }
  transmit_.producer->store(first + count, std::memory_order_release);
  return count;
}

// Calls the kernel until it has taken what lies in the ring. It takes a limited number with each call, and says EBUSY when the interface
// dropped the frame that it took last, EAGAIN and ENOBUFS when there is no room at the moment.
bool XdpTransmitter::kick(std::span<OutgoingFrame*> pushed, std::uint32_t first) noexcept {
  std::uint32_t taken = 0;
  Clock::time_point deadline{};
  while (true) {
    const int error = sendto(socket_.number(), nullptr, 0, MSG_DONTWAIT, nullptr, 0) < 0 ? errno : 0;
    const std::uint32_t now_taken = transmit_.consumer->load(std::memory_order_acquire) - first;
    if (now_taken > pushed.size()) return false;  // not a ring of ours
    for (OutgoingFrame* frame : pushed.subspan(taken, now_taken - taken)) frame->is_sent = true;
    if (error == EBUSY && now_taken > taken) pushed[now_taken - 1]->is_sent = false;
    if (now_taken == pushed.size()) return true;
    if (error != 0 && error != EAGAIN && error != ENOBUFS && error != EBUSY && error != EINTR) return false;
    const bool has_moved = now_taken > taken;
    taken = now_taken;
    if (has_moved) {
      deadline = {};
      continue;
    }
    reap();
    const Clock::time_point now = Clock::now();
    if (deadline == Clock::time_point{}) deadline = now + std::chrono::milliseconds(patience);
    if (now >= deadline) return false;
    std::this_thread::sleep_for(pause);
  }
}

// Chunks come back when the interface has done with them, by the address of their frame: the offset in the chunk is still in it.
void XdpTransmitter::reap() noexcept {
  const std::uint32_t produced = completion_.producer->load(std::memory_order_acquire);
  std::uint32_t consumed = completion_.consumer->load(std::memory_order_relaxed);
  for (; consumed != produced && free_.size() < chunk_count; ++consumed) {
    free_.push_back(static_cast<std::uint16_t>(completion_.entries[consumed % chunk_count] / chunk_size_ % chunk_count));
  }
  completion_.consumer->store(consumed, std::memory_order_release);
}

}  // namespace groupvpn
