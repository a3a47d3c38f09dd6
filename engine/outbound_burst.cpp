#include "outbound_burst.hpp"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <optional>
#include <utility>

#include "fragment.hpp"

namespace groupvpn {
namespace {

// Largest link header, then what encapsulation puts before a packet; the packet; what it puts behind.
constexpr std::size_t slot_head = LinkHeader::maximum_size + esp_headroom;
static_assert(slot_head <= Transmitter::latest_begin);

constexpr std::size_t slot_size_for(std::uint32_t mtu) { return slot_head + mtu + esp_tailroom; }

}  // namespace

OutboundBurst::OutboundBurst(const PathContext& context, WireParameters wire, SuperWire super_wire, PathCounters& counters)
    : wire_mtu_(context.wire_mtu),
      splits_after_(context.splits_after),
      counters_(counters),
      mtu_(wire_mtu_.load()),
      wire_(std::move(wire), slot_size_for(mtu_)),
      super_wire_(std::move(super_wire)),
      too_big_answer_(context.inbound_tap, context.token),
      cutter_(esp_.random_identification()),
      large_(1, slot_head + ipv4_maximum_size + esp_tailroom),
      next_identification_(std::uint32_t{esp_.random_identification()} << 16 | esp_.random_identification()) {}

void OutboundBurst::look_after() noexcept {
  if (const std::uint32_t mtu = wire_mtu_.load(std::memory_order_relaxed); mtu != mtu_) {
    mtu_ = mtu;
    wire_.resize(slot_size_for(mtu));
  }
  wire_.look_after();
}

void OutboundBurst::add(const TapFrame& frame, Sa* sa) {
  const Reason reason = cut(frame, sa);
  if (reason != Reason::delivered) refuse(reason);
}

void OutboundBurst::refuse(Reason reason) noexcept {
  counters_.packets.add();
  counters_.reasons.add(reason);
}

// Stage 1: from a frame to packets in the burst. Tells why the frame, or what was left of it, did not become packets.
Reason OutboundBurst::cut(const TapFrame& frame, Sa* sa) {
  const std::optional<LinkHeader> link = LinkHeader::parse(frame.data, frame.length);
  if (!link) return Reason::not_ip;
  const std::optional<CutPacket> ip = CutPacket::parse(frame.data + link->size, frame.length - link->size);
  if (!ip || ip->family != link->family) return Reason::malformed;
  if (sa == nullptr) return Reason::no_sa;

  current_sa_ = sa;
  current_link_.size = link->size;
  std::memcpy(current_link_.octets.data(), frame.data, link->size);
  const CutLimits limits = limits_for(*sa, *ip, frame.offload);
  current_limit_ = limits.inner_mtu;
  const Reason reason = cutter_.cut(frame.data, link->size, *ip, frame.offload, limits, *this);
  if (reason == Reason::too_big && too_big_answer_.give(*ip, current_link_.octets.data(), limits.inner_mtu)) counters_.icmp_sent.add();
  return reason;
}

// Transport mode protects whole datagrams only (RFC 4303 3.3.4), and keeps the DF bit that the sender has set. A later fragment of ESP in UDP
// would not be known as ESP. Of IPv6 nothing is cut before encryption: on the way only its source may (RFC 8200 4.5). What would be longer than
// any packet when it is encrypted cannot be split later.
CutLimits OutboundBurst::limits_for(const Sa& sa, const CutPacket& ip, const Offload& offload) const noexcept {
  const bool is_tunnel = sa.mode() == Mode::tunnel;
  CutLimits limits{sa.inner_mtu(mtu_, ip.family, ip.outside), is_tunnel && sa.df() == DontFragment::clear};
  if (sa.udp()) {
    if (!is_tunnel) limits.too_long = TooLong::refused;
  } else if (!is_tunnel || ip.family == Family::ipv6 || splits_after_.load(std::memory_order_relaxed)) {
    limits.too_long = TooLong::split_later;
    const bool is_long = offload.gso_type == Offload::gso_none && ip.total_length > limits.inner_mtu;
    if (is_long && ip.total_length > sa.inner_mtu(ipv6_maximum_size, ip.family, ip.outside)) {
      limits.too_long = is_tunnel ? TooLong::fragmented : TooLong::refused;
    }
  }
  return limits;
}

std::uint8_t* OutboundBurst::open(std::uint32_t length) noexcept {
  const bool is_large = length > current_limit_;
  if (is_large || count_ == burst_size || !order_.has_room_for(current_sa_->order())) flush();  // what came before a large one leaves before it
  std::uint8_t* slot = wire_.slot(count_);
  if (slot == nullptr && count_ != 0) {
    flush();
    slot = wire_.slot(0);
  }
  is_refused_ = slot == nullptr;
  if (is_large || is_refused_) slot = large_.slot(0);
  opened_ = std::span(slot, is_large ? large_.size() : wire_.slot_size());
  return slot_head + length + esp_tailroom > opened_.size() ? nullptr : slot + slot_head;
}

// What the wire has no room for takes no sequence number.
void OutboundBurst::commit(std::uint32_t length) noexcept {
  if (is_refused_) return refuse(Reason::send_failed);
  counters_.packets.add();
  const bool is_large = length > current_limit_;
  Packet& packet = packets_[count_];
  packet.data = opened_.data() + slot_head;
  packet.length = length;
  packet.headroom = esp_headroom;
  packet.tailroom = static_cast<std::uint32_t>(opened_.size() - slot_head - length);
  packet.reason = Reason::delivered;
  packet.sa = current_sa_;
  order_.add(current_sa_->order());
  links_[count_] = current_link_;
  ++count_;
  if (is_large) flush_large();
}

// Stages 2 and 3: encapsulate the burst, send it.
void OutboundBurst::flush() noexcept {
  if (count_ == 0) return;
  const std::lock_guard order(order_);
  const std::span<Packet> burst = std::span(packets_).first(count_);
  count_ = 0;
  esp_.encapsulate(burst);
  send(burst);
  for (const Packet& packet : burst) counters_.reasons.add(packet.reason);
}

// The same for one packet that leaves in parts. It counts once.
void OutboundBurst::flush_large() noexcept {
  count_ = 0;
  const std::lock_guard order(order_);
  Packet whole = packets_[0];
  esp_.encapsulate(std::span(&whole, 1));
  if (whole.reason == Reason::delivered) whole.reason = send_in_parts(whole);
  counters_.reasons.add(whole.reason);
}

Reason OutboundBurst::send_in_parts(const Packet& packet) noexcept {
  const Link link = links_[0];
  // Without memory the wire has kept the buffers that it had for a smaller MTU.
  const auto longest = static_cast<std::uint32_t>(std::min<std::size_t>(mtu_, wire_.slot_size() - slot_head));
  Fragmenter fragmenter(packet, longest, next_identification_++);
  if (!fragmenter.is_possible()) return Reason::too_big;
  for (bool has_more = true; has_more;) {
    std::size_t count = 0;
    for (; count < burst_size; ++count) {
      std::uint8_t* slot = wire_.slot(count);
      if (slot == nullptr && count == 0) return Reason::send_failed;
      if (slot == nullptr) break;
      Packet& part = packets_[count];
      part = {};
      part.data = slot + slot_head;
      part.headroom = static_cast<std::uint32_t>(slot_head);
      part.length = fragmenter.next(std::span(part.data, longest));
      has_more = part.length != 0;
      if (!has_more) break;
      links_[count] = link;
    }
    send(std::span(packets_).first(count));
    for (const Packet& part : std::span(packets_).first(count)) {
      if (part.reason != Reason::delivered) return part.reason;
    }
  }
  return Reason::delivered;
}

void OutboundBurst::send(std::span<Packet> packets) noexcept {
  std::array<Outgoing, burst_size> in_udp;
  std::size_t count = 0, udp_count = 0;
  for (std::size_t index = 0; index < packets.size(); ++index) {
    Packet& packet = packets[index];
    if (packet.reason != Reason::delivered) continue;
    const Link& link = links_[index];
    std::uint8_t* frame = packet.data - link.size;
    std::memcpy(frame, link.octets.data(), link.size);
    store16(frame + link.size - 2, LinkHeader::ethertype_of(family_of(*packet.data)));  // which may not be that of the packet inside
    if (packet.sa != nullptr && packet.sa->udp()) {  // parts have none, and are never in UDP
      in_udp[udp_count++] = {&packet, static_cast<std::uint32_t>(link.size)};
      continue;
    }
    const auto link_size = static_cast<std::uint16_t>(link.size);
    outgoing_[count++] = {frame, link_size + packet.length, static_cast<std::uint16_t>(index), link_size, false};
  }
  // ESP in UDP goes first: a wire that fails is replaced, and its buffers, where all packets lie, go with it. One kind may overtake the other,
  // since no SA sends both.
  if (udp_count != 0) counters_.gathered.add(super_wire_.send(std::span(in_udp).first(udp_count)));
  wire_.send(std::span(outgoing_).first(count));
  for (const OutgoingFrame& frame : std::span(outgoing_).first(count)) {
    if (!frame.is_sent) packets[frame.slot].reason = Reason::send_failed;
  }
}

}  // namespace groupvpn
