#include <sys/socket.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <span>

#include "harness.hpp"
#include "packet_transmitter.hpp"

using namespace groupvpn;

namespace {

// An interface that takes nothing until it is emptied.
class Stuck {
 public:
  Stuck() {
    std::array<int, 2> pair{};
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair.data()) == 0);
    ours_ = Descriptor(pair[0]);
    theirs_ = Descriptor(pair[1]);
    for (mmsghdr& message : messages_) {
      message.msg_hdr.msg_iov = &vector_;
      message.msg_hdr.msg_iovlen = 1;
    }
  }
  // As a transmitter does it.
  std::size_t send() {
    patience_.begin();
    std::size_t sent = 0;
    for (std::size_t done = 0; done < messages_.size(); ++done) {
      const std::size_t count = send_messages(ours_.number(), std::span(messages_).subspan(done), patience_);
      sent += count;
      done += count;
    }
    return sent;
  }
  void empty() {
    std::array<char, 16> octets;
    while (recv(theirs_.number(), octets.data(), octets.size(), 0) > 0) {
    }
  }

 private:
  Descriptor ours_, theirs_;
  char octet_ = 0;
  iovec vector_{&octet_, 1};
  std::array<mmsghdr, 2000> messages_{};  // more than a socket holds
  Patience patience_;
};

template <typename Body>
std::int64_t milliseconds_of(Body body) {
  const auto begin = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

TEST_CASE(an_interface_that_takes_nothing_is_waited_for_once) {
  Stuck stuck;
  CHECK(milliseconds_of([&] { CHECK(stuck.send() > 0); }) >= Transmitter::patience - 10);
  const auto stalled = milliseconds_of([&] {
    for (int burst = 0; burst < 10; ++burst) CHECK_EQUAL(stuck.send(), 0U);
  });
  CHECK(stalled < Transmitter::patience * 5);  // a burst each would be 1000
  stuck.empty();
  CHECK(milliseconds_of([&] { CHECK(stuck.send() > 0); }) >= Transmitter::patience - 10);  // it is believed again
}
