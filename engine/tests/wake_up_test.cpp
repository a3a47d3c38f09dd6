// How a thread that rests is woken by what comes into its ring: by a frame at the TAP, and by a bell where that cannot be.
#include <linux/if_tun.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "bpf.hpp"
#include "bpf_ring.hpp"
#include "esp_program.hpp"
#include "frame_ring.hpp"
#include "frame_ring_rig.hpp"
#include "own_network.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

TEST_CASE(what_comes_while_nobody_looks_at_a_bpf_ring_wakes_its_thread_once) {
  if (!has_own_network() || !has_tcx()) return;
  const auto rings = bpf_rings();
  FrameRing& ring = *rings.front();
  const Ear core("core"), rules("wan");
  take(ring, {7, 99});
  const auto is_awake = [&ring](int milliseconds) {
    pollfd bell{ring.descriptor(), POLLIN, 0};
    return poll(&bell, 1, milliseconds) == 1;
  };
  CHECK(!is_awake(0));
  for (int turn = 0; turn < 3; ++turn) {
    core.send(esp(7));
    core.send(esp(7));
    CHECK(is_awake(3000));
    ring.rise();
    CHECK(!is_awake(0));
    core.send(esp(7));
    CHECK(!is_awake(0));  // it looks
    CHECK(!ring.rest());  // frames wait
    ring.rise();
    std::uint32_t came = 0;
    for (; came < 3 && has_come(ring); ++came) {
      CHECK(ring.take().is_whole);
      ring.release();
    }
    CHECK_EQUAL(came, 3U);
    CHECK(ring.rest());
    CHECK(!is_awake(50));
  }
  CHECK(rules.receive(0).empty());
}

TEST_CASE(a_bpf_ring_wakes_its_thread_by_a_frame_at_the_tap) {
  if (!has_own_network() || !has_tcx()) return;
  const std::vector<Descriptor> taps = open_tap("in", 1);
  const auto rings = BpfRing::make(Device::named("wan"), token, mtu, std::array{taps[0].number()});
  FrameRing& ring = *rings.front();
  take(ring, {7});
  const Ear core("core");
  constexpr std::ptrdiff_t tap_header_size = 10;
  const auto wake_up = [&](int milliseconds) {
    pollfd tap{taps[0].number(), POLLIN, 0};
    Octets frame(3000);
    if (poll(&tap, 1, milliseconds) != 1) return Octets();
    frame.resize(static_cast<std::size_t>(std::max<ssize_t>(read(taps[0].number(), frame.data(), frame.size()), 0)));
    frame.erase(frame.begin(), frame.begin() + std::min<std::ptrdiff_t>(tap_header_size, std::ssize(frame)));
    return frame;
  };
  const auto bell_is_silent = [&ring] {
    pollfd bell{ring.descriptor(), POLLIN, 0};
    return poll(&bell, 1, 0) == 0;
  };
  const Octets large = esp(7, 900), small = esp(7, 12);
  CHECK(large.size() > WakeUp::size && small.size() < WakeUp::size);
  const Octets source = {token[0], token[1], token[2], token[3], 0, 0};  // of the first ring
  const Ear capture("wan", ETH_P_ALL);                                    // shares the octets of each packet with the program
  const auto is_captured = [&capture](const Octets& sent) {
    Octets frame = capture.receive();
    while (!frame.empty() && frame.at(13) != 0) frame = capture.receive();  // what Linux says of IPv6 by itself
    return frame == sent;
  };
  const auto send = [&core](const Octets& frame) { core.send(frame); };
  const auto send_by_pages = [](const Octets& frame) { send_in_pages("core", frame); };
  const auto wakes_once = [&](const Octets& sent, const auto& send_it) {
    send_it(sent);
    send_it(sent);
    const Octets frame = wake_up(3000);
    CHECK(WakeUp::is(frame, token));
    CHECK_EQUAL(frame.size(), std::min<std::size_t>(sent.size(), WakeUp::size));
    CHECK(std::equal(source.begin(), source.end(), frame.begin() + ETH_ALEN));
    CHECK(wake_up(50).empty() && bell_is_silent());  // one for both
    CHECK(!ring.is_resting());
    ring.rise();
    for (int came = 0; came < 2; ++came) {
      CHECK(has_come(ring));
      const FrameRing::Frame taken = ring.take();
      CHECK(Octets(taken.data, taken.data + taken.length) == sent);
      CHECK(is_captured(sent));
    }
    ring.release();
    CHECK(ring.rest() && ring.is_resting());
  };
  for (const Octets& sent : {large, small}) {
    wakes_once(sent, send);
    wakes_once(sent, send_by_pages);
  }
  CHECK(!WakeUp::is(large, token) && !WakeUp::is(Octets(ETH_HLEN - 1), MacAddress{}));
}

// What the TAP counts as dropped then is no packet, and that it is full it must not say to nobody.
TEST_CASE(a_bpf_ring_rings_the_bell_where_the_tap_takes_no_frame) {
  if (!has_own_network() || !has_tcx()) return;
  const std::vector<Descriptor> taps = open_tap("in", 1);
  run("tc qdisc replace dev in root noqueue; ip link set in txqueuelen 4");
  const auto rings = BpfRing::make(Device::named("wan"), token, mtu, std::array{taps[0].number()});
  FrameRing& ring = *rings.front();
  take(ring, {7});
  const Ear core("core"), kernel("in");
  const auto rings_bell = [&] {
    CHECK(ring.is_resting());
    core.send(esp(7));
    pollfd bell{ring.descriptor(), POLLIN, 0};
    const bool is_rung = poll(&bell, 1, 3000) == 1;
    ring.rise();
    CHECK(has_come(ring) && ring.take().is_whole);
    ring.release();
    CHECK(ring.rest());
    return is_rung;
  };
  for (int frame = 0; frame < 7; ++frame) kernel.send(esp(99));
  const std::uint64_t dropped = statistic_of("in", tx_dropped);
  CHECK(dropped > 0);
  CHECK(rings_bell() && rings_bell());
  CHECK_EQUAL(ring.lost_wake_ups(), 2U);
  CHECK_EQUAL(statistic_of("in", tx_dropped), dropped + 2);
  run("ip link set in down");
  const std::uint64_t dropped_before = statistic_of("in", tx_dropped), lost_before = ring.lost_wake_ups();
  CHECK(rings_bell());
  CHECK_EQUAL(ring.lost_wake_ups(), lost_before + 1);
  CHECK(statistic_of("in", tx_dropped) - dropped_before <= 1);  // older kernels count nothing at a TAP that is down
}

// Also of a packet whose SA has ended meanwhile: the queues are chosen by a program that knows no SPI.
TEST_CASE(each_of_several_bpf_rings_wakes_its_own_thread) {
  if (!has_own_network() || !has_tcx()) return;
  const std::vector<Descriptor> taps = open_tap("in", 2);
  const auto rings = BpfRing::make(Device::named("wan"), token, mtu, std::array{taps[0].number(), taps[1].number()});
  const Descriptor none = bpf::make_hash("none", sizeof(std::uint32_t), 1, 1);
  const Descriptor program = bpf::load(BPF_PROG_TYPE_SOCKET_FILTER, "queue", queue_program(none, token, 2));
  int number = program.number();
  CHECK_EQUAL(ioctl(taps[0].number(), TUNSETSTEERINGEBPF, &number), 0);
  std::vector<TakenSpi> spis;
  for (std::uint32_t spi = 1; spi <= 16; ++spi) spis.push_back({spi, Spread::by_spi});
  rings.front()->set_spis(spis);
  const Ear core("core");
  std::array<std::uint32_t, 2> woken{};
  for (const TakenSpi& taken : spis) {
    core.send(esp(taken.spi));
    std::array<pollfd, 2> queues = {{{taps[0].number(), POLLIN, 0}, {taps[1].number(), POLLIN, 0}}};
    CHECK_EQUAL(poll(queues.data(), queues.size(), 3000), 1);
    const std::size_t ring = queues[0].revents != 0 ? 0 : 1;
    std::array<std::uint8_t, 200> wake_up;
    CHECK(read(taps[ring].number(), wake_up.data(), wake_up.size()) > 0);
    CHECK(rings[ring]->has() && !rings[1 - ring]->has());
    rings[ring]->rise();
    CHECK(rings[ring]->take().is_whole);
    rings[ring]->release();
    CHECK(rings[ring]->rest());
    ++woken[ring];
  }
  CHECK(woken[0] > 0 && woken[1] > 0);
}

// A bell holds a page of messages that nobody reads.
TEST_CASE(a_packet_that_cannot_wake_the_thread_leaves_that_to_the_next_one) {
  if (!has_own_network() || !has_tcx()) return;
  BpfIngress ingress(Device::named("wan"), token, mtu, std::array{-1});
  ingress.set_spis(std::array{TakenSpi{7, Spread::by_spi}});
  SharedRing ring(ingress.memory(), 0);
  const Ear core("core");
  const auto send = [&] {
    core.send(esp(7));
    CHECK(has_come(ring));
    CHECK(ring.take().state == RingLayout::filled);
    ring.release();
  };
  constexpr int more_than_a_page = 300;
  send();
  CHECK(!ring.is_resting());  // it was woken
  for (int message = 0; message < more_than_a_page; ++message) {
    CHECK(ring.rest());
    send();
  }
  CHECK(ring.is_resting());
  ingress.bell(0).silence();
  send();
  CHECK(!ring.is_resting());
  pollfd bell{ingress.bell(0).descriptor(), POLLIN, 0};
  CHECK_EQUAL(poll(&bell, 1, 3000), 1);
}

namespace {

// Frames for which a queue between two ends of a cable had no room, in all networks of the machine.
std::uint64_t dropped_by_processors() {
  std::ifstream statistics("/proc/net/softnet_stat");
  std::uint64_t sum = 0;
  for (std::string line; std::getline(statistics, line);) {
    std::uint64_t processed = 0, dropped = 0;
    std::istringstream(line) >> std::hex >> processed >> dropped;
    sum += dropped;
  }
  return sum;
}

// Two processors claim records while the thread rests, sleeps and rises: none of them waits in the ring of a thread that sleeps. `tap`: -1 for none.
void fire_at_a_bpf_ring(int tap) {
  const auto rings = BpfRing::make(Device::named("wan"), token, mtu, std::array{tap});
  FrameRing& ring = *rings.front();
  take(ring, {7});
  constexpr std::uint32_t frames_each = 20000;
  std::atomic<int> sending = 2;
  const auto send = [&sending] {
    const Ear core("core");
    const Octets frame = esp(7);
    for (std::uint32_t number = 0; number < frames_each; ++number) {
      if (number % 64 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));  // so that the thread has reason to sleep
      core.send(frame);
    }
    --sending;
  };
  const Ear rules("wan");
  const std::uint64_t dropped_before = dropped_by_processors();
  std::thread first(send), second(send);
  std::uint64_t came = 0, sleeps = 0;
  std::array<pollfd, 2> waiting = {{{ring.descriptor(), POLLIN, 0}, {tap, POLLIN, 0}}};
  while (poll(waiting.data(), waiting.size(), sending == 0 ? 100 : 3000) >= 1) {
    ++sleeps;
    for (std::array<std::uint8_t, 200> wake_up; tap >= 0 && read(tap, wake_up.data(), wake_up.size()) > 0;) {
    }
    if (waiting[0].revents == 0 && ring.is_resting()) continue;  // it was for an earlier rest
    do {
      ring.rise();
      for (; ring.has(); ring.release(), ++came) CHECK(ring.take().is_whole);
    } while (!ring.rest());
  }
  first.join();
  second.join();
  CHECK_EQUAL(sending.load(), 0);
  CHECK(!ring.has());
  CHECK(came > 0 && sleeps > 10);
  CHECK(came + ring.overruns() <= 2 * frames_each);
  CHECK(came + ring.overruns() + dropped_by_processors() - dropped_before >= 2 * frames_each);
  CHECK(rules.receive(0).empty());
}

}  // namespace

TEST_CASE(a_bpf_ring_wakes_its_thread_by_the_bell_under_fire) {
  if (has_own_network() && has_tcx()) fire_at_a_bpf_ring(-1);
}

TEST_CASE(a_bpf_ring_wakes_its_thread_at_the_tap_under_fire) {
  if (!has_own_network() || !has_tcx()) return;
  const Descriptor tap = open_tap("in");
  run("tc qdisc replace dev in root noqueue");
  fire_at_a_bpf_ring(tap.number());
}
