#include "raw_transmitter.hpp"

#include <cerrno>
#include <cstring>

#include "error.hpp"
#include "packet.hpp"
#include "packet_transmitter.hpp"

namespace groupvpn {
namespace {

constexpr int ipv6_header_included = 36;  // IPV6_HDRINCL, which libc does not name

void set(int socket, int level, int option, int value, const char* what) {
  if (setsockopt(socket, level, option, &value, sizeof value) != 0) throw EngineError(describe_error(what, errno));
}

Descriptor open_raw(int family, const Device& device, std::uint32_t mark) {
  Descriptor made(socket(family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_RAW));  // it receives nothing
  if (made.number() < 0) {
    if (errno == EAFNOSUPPORT) return made;
    throw EngineError(describe_error("no raw socket", errno));
  }
  set(made.number(), SOL_SOCKET, SO_BINDTOIFINDEX, device.index, "SO_BINDTOIFINDEX");  // by number: it may have another name by now
  if (mark != 0) set(made.number(), SOL_SOCKET, SO_MARK, static_cast<int>(mark), "SO_MARK");
  const int buffer = 4 << 20;
  setsockopt(made.number(), SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer);
  return made;
}

// What the kernel notes beside the answer to a send (IP_RECVERR): while it waits, poll calls the socket ready.
void forget_errors(int socket) noexcept {
  msghdr nothing{};
  while (recvmsg(socket, &nothing, MSG_ERRQUEUE | MSG_DONTWAIT) >= 0) {
  }
}

}  // namespace

RawTransmitter::RawTransmitter(const Device& device, std::uint32_t mark, std::size_t slot_size)
    : v4_(open_raw(AF_INET, device, mark)),
      v6_(open_raw(AF_INET6, device, mark)),
      index_(static_cast<std::uint32_t>(device.index)),
      slots_(burst_size, slot_size) {
  if (v4_.number() < 0) throw EngineError("no raw socket");
  ip_mreqn multicast{};
  multicast.imr_ifindex = device.index;
  if (setsockopt(v4_.number(), IPPROTO_IP, IP_MULTICAST_IF, &multicast, sizeof multicast) != 0) {
    throw EngineError(describe_error("IP_MULTICAST_IF", errno));
  }
  set(v4_.number(), IPPROTO_IP, IP_MULTICAST_LOOP, 0, "IP_MULTICAST_LOOP");
  set(v4_.number(), IPPROTO_IP, IP_RECVERR, 1, "IP_RECVERR");  // without it the kernel calls sent what a queueing discipline had no room for
  set(v4_.number(), SOL_SOCKET, SO_BROADCAST, 1, "SO_BROADCAST");
  if (v6_.number() >= 0) {
    set(v6_.number(), IPPROTO_IPV6, ipv6_header_included, 1, "IPV6_HDRINCL");
    set(v6_.number(), IPPROTO_IPV6, IPV6_MULTICAST_IF, device.index, "IPV6_MULTICAST_IF");
    set(v6_.number(), IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 0, "IPV6_MULTICAST_LOOP");
    set(v6_.number(), IPPROTO_IPV6, IPV6_RECVERR, 1, "IPV6_RECVERR");
  }
  for (std::size_t index = 0; index < burst_size; ++index) {
    messages_[index].msg_hdr.msg_iov = &vectors_[index];
    messages_[index].msg_hdr.msg_iovlen = 1;
    messages_[index].msg_hdr.msg_name = &destinations_[index];
  }
}

bool RawTransmitter::send(std::span<OutgoingFrame> frames) noexcept {
  const auto is_v6 = [](const OutgoingFrame& frame) { return frame.data[frame.link_size] >> 4 == 6; };
  patience_.begin();
  for (std::size_t first = 0; first < frames.size();) {  // runs of one family, so that nothing changes places
    const bool family = is_v6(frames[first]);
    std::size_t end = first + 1;
    while (end < frames.size() && is_v6(frames[end]) == family) ++end;
    send_run(frames.subspan(first, end - first), family ? v6_.number() : v4_.number(), family);
    first = end;
  }
  return true;
}

void RawTransmitter::send_run(std::span<OutgoingFrame> frames, int socket, bool is_v6) noexcept {
  if (socket < 0) return;
  for (std::size_t index = 0; index < frames.size(); ++index) {
    const OutgoingFrame& frame = frames[index];
    std::uint8_t* ip = frame.data + frame.link_size;
    vectors_[index] = {ip, frame.length - frame.link_size};
    Destination& destination = destinations_[index];
    destination = {};
    if (is_v6) {
      destination.v6.sin6_family = AF_INET6;
      std::memcpy(&destination.v6.sin6_addr, ip + ipv6_at::destination, 16);
      if (ip[ipv6_at::destination] == 0xff || load16(ip + ipv6_at::destination) >> 6 == 0x3fa) {  // multicast, link-local (fe80::/10)
        destination.v6.sin6_scope_id = index_;
      }
    } else {
      destination.v4.sin_family = AF_INET;
      std::memcpy(&destination.v4.sin_addr, ip + ipv4_at::destination, 4);
    }
    messages_[index].msg_hdr.msg_namelen = is_v6 ? sizeof destination.v6 : sizeof destination.v4;
  }
  for (std::size_t done = 0; done < frames.size(); ++done) {
    const std::span left = std::span(messages_).subspan(done, frames.size() - done);
    std::size_t count = send_messages(socket, left, patience_);
    if (count < left.size() && errno != ENOBUFS) {  // an older kernel may have an error for us, of an ICMP message: it is told once
      count += send_messages(socket, left.subspan(count), patience_);
    }
    if (count < left.size()) forget_errors(socket);
    for (OutgoingFrame& frame : frames.subspan(done, count)) frame.is_sent = true;
    done += count;
  }
}

}  // namespace groupvpn
