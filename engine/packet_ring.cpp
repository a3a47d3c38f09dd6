#include "packet_ring.hpp"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "error.hpp"
#include "ring_filter.hpp"

namespace groupvpn {
namespace {

constexpr int ignore_outgoing = 23;  // PACKET_IGNORE_OUTGOING, Linux 4.20
// Where the kernel puts the IP header in a slot: behind its own header and ours of the link, which ends there.
constexpr std::uint32_t ip_offset = TPACKET_ALIGN(TPACKET2_HDRLEN + 16);

// An odd number of cache lines, so that the headers of frames do not compete for the same sets.
std::uint32_t frame_size_for(std::uint32_t mtu) { return ((ip_offset + std::max(mtu, 1500U) + 63) / 64 | 1) * 64; }

void set_option(int socket, int option, const void* value, socklen_t size, const char* what) {
  if (setsockopt(socket, SOL_PACKET, option, value, size) != 0) throw EngineError(describe_error(what, errno));
}

std::uint32_t* status_of(std::uint8_t* slot) noexcept { return &reinterpret_cast<tpacket2_hdr*>(slot)->tp_status; }

}  // namespace

PacketRing::PacketRing(const Device& device, const MacAddress& token, std::uint32_t mtu)
    : token_(token),
      frame_size_(frame_size_for(mtu)),
      socket_(socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {  // protocol 0: nothing comes before `bind`
  if (socket_.number() < 0) throw EngineError(describe_error("no packet socket", errno));
  if (frame_size_ > block_size) throw EngineError("an MTU of " + std::to_string(mtu) + " octets is too large for a ring");
  longest_packet_ = frame_size_ - ip_offset;
  const std::uint32_t in_block = block_size / frame_size_;
  block_count_ = (frame_count + in_block - 1) / in_block;
  PacketRing::set_spis({});
  const int version = TPACKET_V2, yes = 1;
  set_option(socket_.number(), PACKET_VERSION, &version, sizeof version, "TPACKET_V2");
  set_option(socket_.number(), ignore_outgoing, &yes, sizeof yes, "PACKET_IGNORE_OUTGOING");
  const tpacket_req request{block_size, block_count_, frame_size_, block_count_ * in_block};
  set_option(socket_.number(), PACKET_RX_RING, &request, sizeof request, "PACKET_RX_RING");
  memory_ = Mapping(std::size_t{block_size} * block_count_, socket_.number(), 0);
  if (memory_.octets() == nullptr) throw EngineError(describe_error("ring", errno));
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_ALL);  // any other runs behind the nftables ingress hook
  address.sll_ifindex = device.index;
  if (bind(socket_.number(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) throw EngineError(describe_error("bind", errno));
}

bool PacketRing::attach(std::vector<sock_filter> program) const {
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  if (setsockopt(socket_.number(), SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) == 0) return true;
  if (errno == ENOMEM) return false;
  throw EngineError(describe_error("SO_ATTACH_FILTER", errno));
}

// A filter and the one that it replaces must have room in net.core.optmem_max, which is 20480 octets on older kernels: for some hundreds of SPIs. So a short one
// comes between them, and stays if there is no room even then. Where that has none the old one goes first, and for a moment the ring takes all frames: copies,
// of which we find that they are not ours.
void PacketRing::set_spis(std::span<const TakenSpi> spis) {
  std::vector<std::uint32_t> numbers;
  for (const TakenSpi& taken : spis) numbers.push_back(taken.spi);
  const std::uint32_t longest = longest_packet_ + ETH_HLEN;
  if (attach(ring_filter(numbers, token_, longest))) return;
  if (!attach(any_spi_filter(token_, longest))) {
    const int unused = 0;
    setsockopt(socket_.number(), SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused);
    if (!attach(any_spi_filter(token_, longest))) throw EngineError(describe_error("SO_ATTACH_FILTER", ENOMEM));
  }
  attach(ring_filter(numbers, token_, longest));
}

int PacketRing::take_error() noexcept {
  int error = 0;
  socklen_t size = sizeof error;
  return getsockopt(socket_.number(), SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

std::uint8_t* PacketRing::at(std::uint32_t ahead) const noexcept {
  const std::uint32_t in_block = block_size / frame_size_, slot = index(ahead);
  return memory_.octets() + std::size_t{slot / in_block} * block_size + std::size_t{slot % in_block} * frame_size_;
}

bool PacketRing::is_filled(std::uint32_t ahead) const noexcept {
  return (std::atomic_ref(*status_of(at(ahead))).load(std::memory_order_acquire) & TP_STATUS_USER) != 0;
}

bool PacketRing::has() const noexcept { return index(taken_) != end_ && is_filled(taken_); }

// The kernel fills one slot after the other, so that half of those in question need not be looked at. Of a ring that is full the last one is left, or its end would
// be its beginning.
void PacketRing::stop_here() noexcept {
  std::uint32_t filled = taken_, unfilled = slots();
  while (filled < unfilled) {
    const std::uint32_t middle = filled + (unfilled - filled) / 2;
    if (is_filled(middle)) {
      filled = middle + 1;
    } else {
      unfilled = middle;
    }
  }
  end_ = index(std::min(filled, slots() - 1));
}

FrameRing::Frame PacketRing::take() noexcept {
  std::uint8_t* slot = at(taken_++);
  const auto* header = reinterpret_cast<const tpacket2_hdr*>(slot);
  const std::uint32_t begin = header->tp_mac, length = header->tp_snaplen;
  const bool fits = begin >= sizeof(tpacket2_hdr) && begin <= frame_size_ && length <= frame_size_ - begin;
  if (!fits || length != header->tp_len) return Frame{slot, 0, 0, false};
  return Frame{slot + begin, length, begin - static_cast<std::uint32_t>(sizeof(tpacket2_hdr)), true};
}

void PacketRing::release() noexcept {
  for (std::uint32_t ahead = 0; ahead < taken_; ++ahead) {
    std::atomic_ref(*status_of(at(ahead))).store(TP_STATUS_KERNEL, std::memory_order_release);
  }
  next_ = index(taken_);
  taken_ = 0;
}

// Should the kernel refuse the filter, what comes meanwhile is left after one round.
std::uint64_t PacketRing::discard() noexcept {
  sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
  const sock_fprog filter{1, &nothing};
  setsockopt(socket_.number(), SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter);
  go_on();
  std::uint64_t found = 0;
  for (; found < slots() && has(); ++found) {
    static_cast<void>(take());
    release();
  }
  return found;
}

// The kernel's counter begins anew when it is read.
std::uint64_t PacketRing::overruns() const noexcept {
  const std::lock_guard lock(statistics_mutex_);
  tpacket_stats statistics{};
  socklen_t size = sizeof statistics;
  if (getsockopt(socket_.number(), SOL_PACKET, PACKET_STATISTICS, &statistics, &size) == 0) overruns_ += statistics.tp_drops;
  return overruns_;
}

}  // namespace groupvpn
