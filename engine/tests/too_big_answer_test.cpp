// Answers about packets that were too big, as the kernel gets them by a TAP (own_network.hpp). What is in them: icmp_test.cpp.
#include "too_big_answer.hpp"

#include "own_network.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

constexpr MacAddress token = {0x02, 0x47, 0x44, 0x4f, 0x49, 0x77};
constexpr std::size_t link_size = 14;

struct Rig {
  // Whether the sender of the packet in a frame is told at this time.
  bool tells(Octets frame, TooBigAnswer::Clock::duration time) {
    const auto refused = CutPacket::parse(frame.data() + link_size, frame.size() - link_size);
    return answer.give(*refused, frame.data(), 1434, TooBigAnswer::Clock::time_point(time));
  }

  Descriptor in = open_tap("in");
  Ear kernel{"in"};
  Tap tap{in.number(), TapOffload::none};
  TooBigAnswer answer{tap, token};
};

Octets too_big(Header header = {}) {
  header.fragment = Ipv4::dont_fragment;
  return frame_around(ipv4(Octets(1480), header));
}

}  // namespace

TEST_CASE(an_answer_comes_from_our_token_to_whom_the_frame_came_from) {
  if (!has_own_network()) return;
  Rig rig;
  const Octets frame = too_big();
  CHECK(rig.tells(frame, std::chrono::seconds(1)));
  const Octets answer = rig.kernel.receive();
  CHECK(answer.size() > link_size + ipv4_header_size + 8);
  if (answer.size() <= link_size + ipv4_header_size + 8) return;
  CHECK(std::equal(answer.begin(), answer.begin() + 6, frame.begin() + 6));
  CHECK(std::equal(token.begin(), token.end(), answer.begin() + 6));
  CHECK_EQUAL(load16(&answer[link_size + ipv4_header_size]), 0x0304);
  CHECK_EQUAL(load16(&answer[link_size + ipv4_header_size + 6]), 1434);
}

TEST_CASE(who_may_not_be_answered_does_not_use_up_the_turn_of_another_one) {
  if (!has_own_network()) return;
  Rig rig;
  const TooBigAnswer::Clock::duration now = std::chrono::seconds(1);
  CHECK(!rig.tells(too_big({.destination = 0xef010101}), now));
  CHECK(rig.tells(too_big(), now));
  CHECK(!rig.tells(too_big(), now + TooBigAnswer::interval - TooBigAnswer::Clock::duration(1)));
  CHECK(rig.tells(too_big(), now + TooBigAnswer::interval));
  CHECK(!rig.kernel.receive().empty() && !rig.kernel.receive().empty());
  CHECK(rig.kernel.receive(100).empty());
}

// One host that sends packets that are too big all the time leaves the others theirs.
TEST_CASE(each_sender_has_its_turns) {
  if (!has_own_network()) return;
  Rig rig;
  const Octets busy = too_big({.source = 0x0a010105}), other = too_big({.source = 0x0a010106});
  const TooBigAnswer::Clock::duration start = std::chrono::seconds(1), soon = TooBigAnswer::interval / 10;
  CHECK(rig.tells(busy, start));
  CHECK(!rig.tells(busy, start + soon));
  CHECK(rig.tells(other, start + soon));
  CHECK(!rig.tells(other, start + 2 * soon));
}

TEST_CASE(all_senders_together_have_their_turns) {
  if (!has_own_network()) return;
  Rig rig;
  std::int64_t told = 0;
  for (std::uint32_t sender = 0; sender < 1000; ++sender) told += rig.tells(too_big({.source = 0x0a010000 + sender}), std::chrono::seconds(1));
  CHECK_EQUAL(told, TooBigAnswer::burst);
}
