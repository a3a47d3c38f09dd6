#include "packet_transmitter.hpp"

#include <linux/if_packet.h>
#include <poll.h>

#include <cerrno>

#include "error.hpp"

namespace groupvpn {

Descriptor open_packet_socket(const Device& device, std::uint32_t mark, FrameHeader header) {
  Descriptor made(socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));  // protocol 0: it receives nothing
  if (made.number() < 0) throw EngineError(describe_error("no packet socket", errno));
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_ifindex = device.index;
  if (bind(made.number(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) throw EngineError(describe_error("bind", errno));
  const auto set = [&made](int level, int option, std::uint32_t value, const char* what) {
    if (setsockopt(made.number(), level, option, &value, sizeof value) != 0) throw EngineError(describe_error(what, errno));
  };
  set(SOL_PACKET, PACKET_QDISC_BYPASS, 1, "PACKET_QDISC_BYPASS");
  if (header == FrameHeader::virtio) set(SOL_PACKET, PACKET_VNET_HDR, 1, "PACKET_VNET_HDR");
  if (mark != 0) set(SOL_SOCKET, SO_MARK, mark, "SO_MARK");
  const int buffer = 4 << 20;
  setsockopt(made.number(), SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer);  // a smaller one only makes us wait earlier
  return made;
}

PacketTransmitter::PacketTransmitter(const Device& device, std::uint32_t mark, std::size_t slot_size)
    : socket_(open_packet_socket(device, mark)), slots_(burst_size, slot_size) {
  for (std::size_t index = 0; index < burst_size; ++index) {
    messages_[index].msg_hdr.msg_iov = &vectors_[index];
    messages_[index].msg_hdr.msg_iovlen = 1;
  }
}

bool PacketTransmitter::send(std::span<OutgoingFrame> frames) noexcept {
  for (std::size_t index = 0; index < frames.size(); ++index) vectors_[index] = {frames[index].data, frames[index].length};
  patience_.begin();
  for (std::size_t done = 0; done < frames.size(); ++done) {
    const std::size_t count = send_messages(socket_.number(), std::span(messages_).subspan(done, frames.size() - done), patience_);
    for (OutgoingFrame& frame : frames.subspan(done, count)) frame.is_sent = true;
    done += count;  // and the next one is passed by
  }
  return true;  // an interface that is down refuses frames one by one, and takes them again when it is up
}

bool Patience::wait(int socket) noexcept {
  constexpr int step = 10, most = 5 * Transmitter::patience;
  if (idle_ >= Transmitter::patience || all_ >= most) {
    all_ = most;
    return false;
  }
  pollfd writable{socket, POLLOUT, 0};
  poll(&writable, 1, step);
  idle_ += step;
  all_ += step;
  return true;
}

std::size_t send_messages(int socket, std::span<mmsghdr> messages, Patience& patience) noexcept {
  std::size_t sent = 0;
  while (sent < messages.size()) {
    const int count = sendmmsg(socket, messages.data() + sent, static_cast<unsigned>(messages.size() - sent), 0);
    if (count > 0) {
      sent += static_cast<std::size_t>(count);
      patience.something_was_taken();
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN || !patience.wait(socket)) return sent;
  }
  return sent;
}

}  // namespace groupvpn
