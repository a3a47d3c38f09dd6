#include "outbound.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "error.hpp"
#include "fragment.hpp"
#include "icmp.hpp"
#include "tap_program.hpp"
#include "tap_rings.hpp"

namespace groupvpn {
namespace {

constexpr std::uint64_t stop_tag = ~std::uint64_t{0};
constexpr auto icmp_interval = std::chrono::milliseconds(1);

// Largest link header, then what encapsulation puts before a packet; the packet; what it puts behind.
constexpr std::size_t slot_head = LinkHeader::maximum_size + esp_headroom;
static_assert(slot_head <= Transmitter::latest_begin);

constexpr std::size_t slot_size_for(std::uint32_t mtu) { return slot_head + mtu + esp_tailroom; }

}  // namespace

Outbound::Outbound(const PathContext& context, WireParameters wire, SuperWire super_wire)
    : context_(context),
      wire_(std::move(wire), slot_size_for(context.wire_mtu.load())),
      super_wire_(std::move(super_wire)),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      cutter_(esp_.random_identification()),
      mtu_(context.wire_mtu.load()),
      frame_(read_size),
      large_(1, slot_head + ipv4_maximum_size + esp_tailroom),
      next_identification_(std::uint32_t{esp_.random_identification()} << 16 | esp_.random_identification()) {
  if (context_.tap_rings != nullptr) ring_ = context_.tap_rings->ring(static_cast<std::uint32_t>(context_.worker));
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = stop_tag;
  if (epoll_.number() < 0 || epoll_ctl(epoll_.number(), EPOLL_CTL_ADD, stop_.descriptor(), &event) != 0) {
    throw EngineError(describe_error("outbound TAPs cannot be waited for", errno));
  }
}

void Outbound::add_queue(std::size_t queue, Tap tap) {
  const std::lock_guard lock(queues_turn_);
  if (queue >= queues_.size()) queues_.resize(queue + 1);
  queues_[queue] = tap;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = queue;
  if (epoll_ctl(epoll_.number(), EPOLL_CTL_ADD, tap.descriptor(), &event) != 0) {
    const std::string text = std::strerror(errno);
    queues_[queue].reset();
    throw EngineError("file descriptor " + std::to_string(tap.descriptor()) + " cannot be waited for: " + text);
  }
}

bool Outbound::remove_queue(std::size_t queue) {
  const std::lock_guard lock(queues_turn_);
  if (queue >= queues_.size() || !queues_[queue]) return false;
  epoll_ctl(epoll_.number(), EPOLL_CTL_DEL, queues_[queue]->descriptor(), nullptr);
  queues_[queue].reset();
  return true;
}

void Outbound::run() {
  std::array<epoll_event, 32> events;
  is_leaving_ = false;
  for (bool is_stopping = false; !is_stopping;) {
    const bool is_sleeping = !is_risen_;
    const Spin::Clock::time_point asleep = Spin::Clock::now();
    const int ready = epoll_wait(epoll_.number(), events.data(), static_cast<int>(events.size()), is_sleeping ? -1 : 0);
    if (ready < 0 && errno != EINTR) return context_.fault.set(describe_error("outbound TAPs cannot be waited for", errno));
    const Spin::Clock::time_point awake = Spin::Clock::now();
    queues_turn_.give_way();
    const std::lock_guard lock(queues_turn_);
    follow_mtu();
    wire_.look_after();
    const std::span came = std::span(events).first(static_cast<std::size_t>(std::max(ready, 0)));
    is_stopping = std::ranges::any_of(came, [](const epoll_event& event) { return event.data.u64 == stop_tag; });
    taken_ = 0;
    may_rise_ = ring_ && is_sleeping && !is_stopping;
    serve(came);
    if (may_rise_ && taken_ != 0 && awake - asleep < taken_ * close_enough) {
      ring_->rise(RiseMark::of(++rises_));
      spin_.slept(awake - asleep, taken_);
      is_risen_ = true;
      fresh_until_ = awake + longest_on_the_way;
      drain_taps();
    }
    if (is_risen_ && is_stopping) {  // what is in the ring waits there: it leaves first when we run again, or is thrown away (`discard`)
      static_cast<void>(ring_->rest());
    } else if (is_risen_) {
      serve_ring();
    }
  }
}

void Outbound::serve(std::span<const epoll_event> events) {
  const std::shared_ptr<const SaTable> table = context_.sas.get();
  for (const epoll_event& event : events) {
    if (event.data.u64 != stop_tag) turn(event.data.u64, *table);
  }
  flush();
}

void Outbound::follow_mtu() {
  const std::uint32_t mtu = context_.wire_mtu.load(std::memory_order_relaxed);
  if (mtu == mtu_) return;
  mtu_ = mtu;
  wire_.resize(slot_size_for(mtu));
}

void Outbound::turn(std::size_t queue, const SaTable& table) {
  if (queue >= queues_.size() || !queues_[queue]) return;
  const Tap tap = *queues_[queue];
  Sa* sa = table.sender(queue, context_.worker);
  for (std::size_t frame = 0; frame < frames_per_turn && queues_[queue] && !is_leaving_; ++frame) {  // to take one may let others change the queues
    const ssize_t length = tap.read(frame_);
    if (length < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return;
      const int error = errno;
      epoll_ctl(epoll_.number(), EPOLL_CTL_DEL, tap.descriptor(), nullptr);
      queues_[queue].reset();
      flush();  // there may be no memory to say what is at fault
      context_.fault.set("outbound queue " + std::to_string(queue) + ": " + std::strerror(error));
      return;
    }
    ++taken_;
    take(static_cast<std::size_t>(length), tap, sa);
  }
}

// Until nothing has come for a while, or something has come that had to go by a TAP, or others must have their turn: a burst may have to wait for the wire.
void Outbound::serve_ring() {
  for (int burst = 0; burst < ring_bursts_per_turn && !queues_turn_.is_wanted() && !stop_.is_raised(); ++burst) {
    if (take_ring_burst() != 0) continue;
    if (ring_->is_resting() || !spin_.wait([this] { return ring_->has() || ring_->is_resting(); })) return rest();
  }
}

// What was led to a TAP until we rose is older than all that comes by the ring, and of each flow it is there when the first frame behind it is in the ring.
// Other processors may bring theirs a little later; but nothing waits at a TAP so long that RiseMark would begin anew.
void Outbound::drain_taps() {
  is_fresh_ = false;
  std::array<epoll_event, 32> events;
  do {
    const int ready = epoll_wait(epoll_.number(), events.data(), static_cast<int>(events.size()), 0);
    taken_ = 0;
    serve(std::span(events).first(static_cast<std::size_t>(std::max(ready, 0))));
  } while (is_risen_ && taken_ != 0);
  is_fresh_ = is_risen_ && Spin::Clock::now() < fresh_until_;
}

// What is still in the ring is older than what comes to it from now on. Where we stop it waits there, and we stay risen.
void Outbound::rest() noexcept {
  ring_->go_on();
  while (!ring_->rest()) {
    if (stop_.is_raised()) return;
    if (queues_turn_.is_wanted()) {
      queues_turn_.unlock();
      queues_turn_.give_way();
      queues_turn_.lock();
    }
    if (take_ring_burst() == 0) sched_yield();  // a frame that is being written
  }
  is_risen_ = is_fresh_ = false;
}

std::size_t Outbound::take_ring_burst() {
  if (!ring_->has()) return 0;
  if (is_fresh_) {  // what is older than this frame is at a TAP by now, but what is older than the next one may not be
    ring_->stop_here();
    drain_taps();
    if (is_leaving_) {
      ring_->go_on();
      return 0;
    }
  }
  const std::shared_ptr<const SaTable> table = context_.sas.get();
  std::size_t taken = 0;
  for (; taken < frames_per_turn && ring_->has(); ++taken) take_record(ring_->take(), *table);
  flush();
  ring_->release();
  ring_->go_on();
  return taken;
}

void Outbound::take_record(const SharedRing::Record& record, const SaTable& table) {
  if (record.state == RingLayout::left) return;
  counters_.frames.add();
  const std::size_t queue = record.length >> 16, length = record.length & 0xffff;
  if (length == 0) return refuse(Reason::oversize);
  Incoming frame{record.frame, length, {}};
  if (record.state == RingLayout::incomplete) {
    const std::optional<LinkHeader> link = LinkHeader::parse(frame.data, length);
    const std::optional<CutPacket> ip = link ? CutPacket::parse(frame.data + link->size, length - link->size) : std::nullopt;
    if (!ip) return refuse(Reason::malformed);
    frame.offload = Offload::of_checksum(link->size + ip->ip_length, ip->protocol);
  }
  handle(frame, table.sender(queue, context_.worker));
}

// What `tap_program` takes, as far as it can be seen.
bool Outbound::is_for_ring(const Incoming& frame) const noexcept {
  return frame.offload.gso_type == Offload::gso_none && frame.length <= context_.tap_rings->longest_frame();
}

// Whether this frame came when the ring, as it rose the last time, was to rest again. Takes the mark away.
bool Outbound::came_behind_ring(Incoming& frame) const noexcept {
  if (frame.length < RiseMark::at + RiseMark::size || load16(frame.data + RiseMark::at) != RiseMark::ethertype) return false;
  const std::uint32_t mark = load16(frame.data + RiseMark::at + 2);
  if ((mark & RiseMark::vlan) != RiseMark::vlan) return false;
  std::memmove(frame.data + RiseMark::size, frame.data, RiseMark::at);
  frame.data += RiseMark::size;
  frame.length -= RiseMark::size;
  if ((frame.offload.flags & Offload::needs_checksum) != 0) frame.offload.checksum_start = static_cast<std::uint16_t>(frame.offload.checksum_start - RiseMark::size);
  return mark == RiseMark::of(rises_);
}

void Outbound::take(std::size_t length, const Tap& tap, Sa* sa) {
  counters_.frames.add();
  if (length == frame_.size()) return refuse(Reason::oversize);
  if (length < tap.header_size()) return refuse(Reason::malformed);
  Incoming frame{frame_.data() + tap.header_size(), length - tap.header_size(), Offload::read(frame_.data())};
  if (ring_) {
    const bool is_behind_ring = came_behind_ring(frame);
    may_rise_ = may_rise_ && is_for_ring(frame);
    if (is_risen_ && is_behind_ring) {  // what is in the ring is older, and what came by this TAP before it has been taken
      is_fresh_ = false;
      rest();
      is_leaving_ = is_risen_;
      if (is_leaving_) return refuse(Reason::send_failed);  // it may not overtake them
    }
  }
  handle(frame, sa);
}

void Outbound::refuse(Reason reason) noexcept {
  counters_.packets.add();
  counters_.reasons.add(reason);
}

void Outbound::handle(const Incoming& frame, Sa* sa) {
  const Reason reason = cut(frame, sa);
  if (reason != Reason::delivered) refuse(reason);
}

// Stage 1: from a frame to packets in the burst. Tells why the frame, or what was left of it, did not become packets.
Reason Outbound::cut(const Incoming& frame, Sa* sa) {
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
  if (reason == Reason::too_big) answer_too_big(*ip, limits.inner_mtu);
  return reason;
}

// Transport mode protects whole datagrams only (RFC 4303 3.3.4), and keeps the DF bit that the sender has set. A later fragment of ESP in UDP
// would not be known as ESP. Of IPv6 nothing is cut before encryption: on the way only its source may (RFC 8200 4.5). What would be longer than
// any packet when it is encrypted cannot be split later.
CutLimits Outbound::limits_for(const Sa& sa, const CutPacket& ip, const Offload& offload) const noexcept {
  const bool is_tunnel = sa.mode() == Mode::tunnel;
  CutLimits limits{sa.inner_mtu(mtu_, ip.family, ip.outside), is_tunnel && sa.df() == DontFragment::clear};
  if (sa.udp()) {
    if (!is_tunnel) limits.too_long = TooLong::refused;
  } else if (!is_tunnel || ip.family == Family::ipv6 || context_.splits_after.load(std::memory_order_relaxed)) {
    limits.too_long = TooLong::split_later;
    const bool is_long = offload.gso_type == Offload::gso_none && ip.total_length > limits.inner_mtu;
    if (is_long && ip.total_length > sa.inner_mtu(ipv6_maximum_size, ip.family, ip.outside)) {
      limits.too_long = is_tunnel ? TooLong::fragmented : TooLong::refused;
    }
  }
  return limits;
}

std::uint8_t* Outbound::open(std::uint32_t length) noexcept {
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
void Outbound::commit(std::uint32_t length) noexcept {
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
void Outbound::flush() noexcept {
  if (count_ == 0) return;
  const std::lock_guard order(order_);
  const std::span<Packet> burst = std::span(packets_).first(count_);
  count_ = 0;
  esp_.encapsulate(burst);
  send(burst);
  for (const Packet& packet : burst) counters_.reasons.add(packet.reason);
}

// The same for one packet that leaves in parts. It counts once.
void Outbound::flush_large() noexcept {
  count_ = 0;
  const std::lock_guard order(order_);
  Packet whole = packets_[0];
  esp_.encapsulate(std::span(&whole, 1));
  if (whole.reason == Reason::delivered) whole.reason = send_in_parts(whole);
  counters_.reasons.add(whole.reason);
}

Reason Outbound::send_in_parts(const Packet& packet) noexcept {
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

void Outbound::send(std::span<Packet> packets) noexcept {
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

void Outbound::answer_too_big(const CutPacket& refused, std::uint32_t mtu) {
  const auto now = std::chrono::steady_clock::now();
  if (now < next_icmp_) return;
  std::array<std::uint8_t, inject_headroom + icmpv6_maximum_size> buffer;
  Packet packet;
  packet.data = buffer.data() + inject_headroom;
  packet.headroom = inject_headroom;
  const std::span<std::uint8_t, icmpv6_maximum_size> room(packet.data, icmpv6_maximum_size);
  if (const auto ip = Ipv4::parse(refused.octets, refused.total_length); ip && may_answer_with_icmp(*ip)) {
    packet.length = write_fragmentation_needed(*ip, mtu, room.first<icmp_maximum_size>());
  } else if (const auto other = Ipv6::parse(refused.octets, refused.total_length); other && may_answer_with_icmp(*other)) {
    packet.length = write_packet_too_big(*other, std::max(mtu, ipv6_minimum_mtu), room);
  } else {
    return;
  }
  next_icmp_ = now + icmp_interval;
  MacAddress ours;  // the kernel wrote it into the frame as its source
  std::memcpy(ours.data(), current_link_.octets.data() + ours.size(), ours.size());
  if (inject(context_.inbound_tap, packet, ours, context_.token)) counters_.icmp_sent.add();
}

}  // namespace groupvpn
