#include "inbound.hpp"

#include <poll.h>
#include <sched.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <new>
#include <utility>

#include "error.hpp"
#include "esp_program.hpp"
#include "outer.hpp"
#include "split.hpp"

namespace groupvpn {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

constexpr int fragment_check_milliseconds = 500;

}  // namespace

Inbound::Inbound(const PathContext& context)
    : context_(context), coalescer_(context.inbound_tap.takes_udp_super_packets()), arena_(longest_frame, arena_size) {
  datagrams_.reserve(burst_size);  // each has a packet in the burst, so that this is the last time it asks for memory
}

void Inbound::run() {
  enum : std::size_t { stop, tap, ring };
  std::array<pollfd, 3> waiting = {{{stop_.descriptor(), POLLIN, 0},
                                    {context_.inbound_tap.descriptor(), POLLIN, 0},
                                    {context_.ring != nullptr ? context_.ring->descriptor() : -1, POLLIN, 0}}};  // poll passes by what is -1
  while (true) {
    const int timeout = is_risen_ ? 0 : counters_.pending.load(std::memory_order_relaxed) != 0 ? fragment_check_milliseconds : -1;
    const Spin::Clock::time_point asleep = Spin::Clock::now();
    const int ready = poll(waiting.data(), waiting.size(), timeout);
    if (ready < 0 && errno != EINTR) return context_.fault.set(describe_error("the inbound TAP cannot be waited for", errno));
    const Spin::Clock::time_point awake = Spin::Clock::now();
    if (ready > 0 && waiting[stop].revents != 0) break;
    if (ready > 0 && waiting[ring].revents != 0) {
      if ((waiting[ring].revents & POLLERR) != 0) context_.ring->take_error();  // it is down: frames come again when it is up
      rise(awake - asleep);
    }
    if (ready > 0 && waiting[tap].revents != 0 && !serve_tap()) {
      context_.fault.set(describe_error("inbound TAP", errno));
      waiting[tap].fd = -1;
    }
    if (!is_risen_ && context_.ring != nullptr && !context_.ring->is_resting()) rise(awake - asleep);  // a WakeUp, which has been read
    if (is_risen_) serve_ring();
    expire_fragments();
  }
}

void Inbound::rise(Spin::Clock::duration slept) {
  const bool was_risen = std::exchange(is_risen_, true);
  context_.ring->rise();
  const std::size_t taken = take_ring_burst();
  if (!was_risen) spin_.slept(slept, taken);
}

// Until nothing has come for a while, or the TAP must have its turn.
void Inbound::serve_ring() {
  std::size_t taken = 0;
  for (int burst = 0; burst < ring_bursts_per_turn && taken < ring_packets_per_turn; ++burst) {
    const std::size_t more = take_ring_burst();
    taken += more;
    if (more != 0 || spin_.wait([this] { return context_.ring->has(); })) continue;
    is_risen_ = !context_.ring->rest();
    if (!is_risen_) return;
    context_.ring->rise();  // a frame is being written
    sched_yield();
  }
}

// Frames are decrypted where they lie in the ring, and given back when the kernel has what was in them.
std::size_t Inbound::take_ring_burst() {
  std::size_t taken = 0;
  for (; taken < burst_size && context_.ring->has(); ++taken) {
    const FrameRing::Frame frame = context_.ring->take();
    counters_.frames.add();
    const std::optional<LinkHeader> link = LinkHeader::parse(frame.data, frame.length);
    if (!frame.is_whole || !link) {
      refuse(frame.is_whole ? Reason::not_ip : Reason::oversize);
      continue;
    }
    const auto link_size = static_cast<std::uint32_t>(link->size);
    push({.data = frame.data + link_size, .length = frame.length - link_size, .headroom = frame.headroom + link_size}, frame.data);
  }
  if (taken == 0) return 0;
  counters_.ring_frames.add(taken);
  process();
  context_.ring->release();
  return taken;
}

bool Inbound::serve_tap() {
  arena_.clear();
  std::size_t count = 0;
  int error = EAGAIN;
  while (count < burst_size && arena_.has_room()) {
    const std::span<std::uint8_t> room = arena_.room();
    const ssize_t length = context_.inbound_tap.read(room);
    if (is_wake_up(room, length)) continue;
    if (length >= 0) {
      arena_.keep(static_cast<std::size_t>(length));
      frames_[count++] = room.first(static_cast<std::size_t>(length));
    } else if (errno != EINTR) {
      error = errno;
      break;
    }
  }
  if (count != 0) serve_what_is_older();
  for (const std::span<std::uint8_t> frame : std::span(frames_).first(count)) take(frame.data(), frame.size());
  process();
  errno = error;
  return error == EAGAIN;
}

bool Inbound::is_wake_up(std::span<const std::uint8_t> octets, ssize_t length) const noexcept {
  const auto header_size = static_cast<ssize_t>(context_.inbound_tap.header_size());
  if (length <= header_size) return false;
  return WakeUp::is(octets.first(static_cast<std::size_t>(length)).subspan(context_.inbound_tap.header_size()), context_.token);
}

// By the TAP come the few packets that the ring does not take, such as fragments, those with options and too long ones. Others of the same
// sender, in the same replay window, come by the ring. Those older than a frame of the TAP are there by the time we have read that frame: they
// are served first, or it would move the window past them.
void Inbound::serve_what_is_older() {
  if (context_.ring == nullptr) return;
  context_.ring->stop_here();
  while (take_ring_burst() != 0) {
  }
  context_.ring->go_on();
}

// Stage 1: from a frame to a packet in the burst.
void Inbound::take(std::uint8_t* octets, std::size_t length) {
  counters_.frames.add();
  const std::size_t header_size = context_.inbound_tap.header_size();
  if (length == longest_frame) return refuse(Reason::oversize);
  if (length < header_size) return refuse(Reason::malformed);
  std::uint8_t* frame = octets + header_size;
  const std::size_t frame_length = length - header_size;
  const std::optional<LinkHeader> link = LinkHeader::parse(frame, frame_length);
  if (!link) return refuse(Reason::not_ip);
  std::uint8_t* ip = frame + link->size;
  const auto headroom = static_cast<std::uint32_t>(ip - octets);
  const Packet packet{.data = ip, .length = static_cast<std::uint32_t>(frame_length - link->size), .headroom = headroom};
  const Offload offload = Offload::read(octets);
  if (offload.gso_type == Offload::gso_udp_segmentation) return take_super_packet(packet, offload.segment_size, frame);
  if (offload.gso_type != Offload::gso_none) return refuse(Reason::malformed);
  if (take_fragment(packet, frame)) return;
  push(packet, frame);
}

// A UDP super-packet (docs/protocol/esp-in-udp.md). A checksum that the kernel left to us does not matter: nobody will look at it.
void Inbound::take_super_packet(Packet packet, std::uint32_t segment_size, const std::uint8_t* frame) {
  if (const Reason reason = parse_outer(packet); reason != Reason::delivered) return refuse(reason);
  Splitter splitter(packet, segment_size);
  if (splitter.reason() != Reason::delivered) return refuse(splitter.reason());
  counters_.split.add(splitter.count() - 1U);
  const std::shared_ptr<const SaTable> table = context_.sas.get();
  while (std::optional<Packet> segment = splitter.next()) {
    const Sa* sa = segment->length < 4 ? nullptr : table->inbound.find(load32(segment->data));
    if (sa == nullptr || !sa->reaches_before()) {
      push(*segment, frame);
      continue;
    }
    std::unique_ptr<std::vector<std::uint8_t>> octets = splitter.set_apart(*segment);
    push(*segment, frame);
    if (octets) datagrams_.push_back(std::move(octets));
  }
}

// False for a packet that is none. What cannot be said of it yet, decapsulation says of the whole. Of UDP only first fragments tell that they are ESP's, so only they are led
// here: they could never be put together.
bool Inbound::take_fragment(const Packet& packet, const std::uint8_t* frame) {
  const auto reason_against = [](std::uint8_t protocol) {
    if (protocol == protocol_esp || protocol == protocol_ah) return Reason::delivered;
    return protocol == protocol_udp ? Reason::fragment : Reason::not_esp;
  };
  if (const auto ip = Ipv4::parse(packet.data, packet.length)) {
    if (!ip->is_fragment()) return false;
    const Reason reason = reason_against(ip->protocol());
    reason == Reason::delivered ? keep_fragment(reassembler_.add(*ip, now()), frame) : refuse(reason);
    return true;
  }
  const auto ip = Ipv6::parse(packet.data, packet.length);
  const auto chain = ip ? Ipv6Chain::walk(*ip) : std::nullopt;
  if (!chain || !chain->is_fragment(*ip)) return false;
  const Reason reason = reason_against(packet.data[chain->fragment]);
  reason == Reason::delivered ? keep_fragment(reassembler_.add(*ip, *chain, now()), frame) : refuse(reason);
  return true;
}

void Inbound::keep_fragment(Reassembled result, const std::uint8_t* frame) {
  if (result.lost != 0) refuse(result.reason, result.lost);
  if (!result.datagram) return;
  const auto length = static_cast<std::uint32_t>(result.datagram->size());
  constexpr std::uint32_t tailroom = 4;  // which AH with extended sequence numbers wants
  try {
    result.datagram->resize(length + tailroom);
  } catch (const std::bad_alloc&) {
    return refuse(Reason::fragment, result.joined);
  }
  counters_.joined.add(result.joined - 1);
  push({.data = result.datagram->data(), .length = length, .tailroom = tailroom}, frame);
  datagrams_.push_back(std::move(result.datagram));
}

void Inbound::push(const Packet& packet, const std::uint8_t* frame) {
  if (count_ == burst_size) process();
  packets_[count_] = packet;
  std::memcpy(destinations_[count_].data(), frame, destinations_[count_].size());
  ++count_;
}

// Stages 2 to 4: decapsulate the burst, coalesce it, give it to the kernel.
void Inbound::process() {
  const std::span<Packet> burst = std::span(packets_).first(count_);
  const std::shared_ptr<const SaTable> table = context_.sas.get();
  esp_.decapsulate(table->inbound, burst);
  for (const Packet& packet : burst) {
    if (packet.reason == Reason::delivered) continue;
    counters_.reasons.add(packet.reason);
    if (context_.events != nullptr) context_.events->notice(packet);
  }
  for (const SuperPacket& super : coalescer_.couple(burst)) {
    counters_.reasons.add(give(super, table->inbound) ? Reason::delivered : Reason::inject_failed, super.count);
    counters_.coalesced.add(super.count - 1U);
  }
  count_ = 0;
  datagrams_.clear();
  counters_.pending.store(reassembler_.pending_fragments(), std::memory_order_relaxed);
}

// The frame keeps the destination that it came with: the addresses are preserved, so what was right for the ESP packet, unicast or multicast,
// is right for the packet inside. The link header stands apart: before the packet may be another one that is still to be given.
bool Inbound::give(const SuperPacket& super, const SaSet& sas) {
  const Packet& first = packets_[super.first];
  std::uint8_t* link = header_.data() + Tap::maximum_header_size;
  write_link_header(link, family_of(*first.data), destinations_[super.first], tagged(context_.token, sas.tag_of(*first.sa)));
  parts_[0] = {link, ethernet_header_size};
  parts_[1] = {first.data, first.length};
  std::size_t count = 2;
  for (std::uint16_t index = super.first; index != super.last; ++count) {
    index = coalescer_.next(index);
    parts_[count] = {packets_[index].data + super.headers, packets_[index].length - super.headers};
  }
  return context_.inbound_tap.write(offload_of(super, first, ethernet_header_size), std::span(parts_).first(count));
}

void Inbound::expire_fragments() {
  if (counters_.pending.load(std::memory_order_relaxed) == 0) return;
  if (const std::uint32_t lost = reassembler_.expire(now()); lost != 0) refuse(Reason::fragment, lost);
  counters_.pending.store(reassembler_.pending_fragments(), std::memory_order_relaxed);
}

}  // namespace groupvpn
