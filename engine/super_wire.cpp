#include "super_wire.hpp"

namespace groupvpn {

void SuperWire::build(std::span<const Outgoing> burst, std::span<const Gathered> frames) noexcept {
  std::size_t part = 0;
  for (std::size_t number = 0; number < frames.size(); ++number) {
    const Gathered& frame = frames[number];
    const Outgoing& first = burst[frame.first];
    msghdr& message = messages_[number].msg_hdr;
    message.msg_iov = &parts_[part];
    message.msg_iovlen = frame.count + 1U;
    offload_of(frame, first.link_size).write(headers_[number].data());
    parts_[part++] = {headers_[number].data(), virtio_header_size};
    parts_[part++] = {first.packet->data - first.link_size, first.link_size + first.packet->length};
    for (const Outgoing& other : burst.subspan(frame.first + 1U, frame.count - 1U)) {
      parts_[part++] = {other.packet->data + frame.headers, other.packet->length - frame.headers};
    }
  }
}

std::size_t SuperWire::send(std::span<const Outgoing> burst) noexcept {
  const std::span<const Gathered> frames = gathers_ ? gatherer_.gather(burst) : gatherer_.leave(burst);
  build(burst, frames);
  std::size_t gathered = 0;
  patience_.begin();
  for (std::size_t done = 0; done < frames.size();) {
    const std::size_t sent = send_messages(socket_.number(), std::span(messages_).subspan(done, frames.size() - done), patience_);
    for (const Gathered& frame : frames.subspan(done, sent)) gathered += frame.count - 1U;
    done += sent;
    if (done == frames.size()) break;
    const Gathered& refused = frames[done++];
    for (const Outgoing& packet : burst.subspan(refused.first, refused.count)) packet.packet->reason = Reason::send_failed;
  }
  return gathered;
}

}  // namespace groupvpn
