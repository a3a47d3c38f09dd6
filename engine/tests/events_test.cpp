#include "events.hpp"

#include <poll.h>

#include <map>
#include <thread>

#include "boot_clock.hpp"
#include "build.hpp"
#include "harness.hpp"
#include "lifetime.hpp"
#include "memory.hpp"
#include "path.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

bool is_readable(const EventQueue& queue, int milliseconds = 0) {
  pollfd waiting{queue.descriptor(), POLLIN, 0};
  return poll(&waiting, 1, milliseconds) == 1;
}

Address source(std::uint32_t number) {
  Address address{};
  store32(address.data(), number);
  return address;
}

}  // namespace

TEST_CASE(a_fault_raises_the_alarm) {
  EventQueue queue;
  Fault fault(queue.alarm());
  pollfd waiting{queue.alarm(), POLLIN, 0};
  CHECK_EQUAL(poll(&waiting, 1, 0), 0);
  fault.set("the wire is gone");
  CHECK_EQUAL(poll(&waiting, 1, 0), 1);
  CHECK(fault.get() == "the wire is gone");
  Fault(-1).set("nobody listens");
}

TEST_CASE(events_come_in_order_and_once) {
  EventQueue queue;
  CHECK(!is_readable(queue));
  CHECK(queue.drain().empty());
  queue.tell(EventKind::soft_bytes, 0x1000);
  queue.tell(EventKind::hard_bytes, 0x2000);
  CHECK(is_readable(queue));
  const std::vector<Event> events = queue.drain();
  CHECK_EQUAL(events.size(), 2U);
  CHECK(events[0].kind == EventKind::soft_bytes && events[0].spi == 0x1000);
  CHECK(events[1].kind == EventKind::hard_bytes && events[1].spi == 0x2000);
  CHECK(!is_readable(queue));
  CHECK(queue.drain().empty());
}

TEST_CASE(an_sa_is_heard_however_many_wait) {
  EventQueue queue;
  constexpr std::size_t many = 3 * EventQueue::room;
  for (std::uint32_t number = 0; number < many; ++number) queue.tell(EventKind::hard_bytes, 0x1000 + number);
  CHECK_EQUAL(queue.counters().lost, 0U);
  const std::vector<Event> events = queue.drain();
  CHECK_EQUAL(events.size(), many);
  CHECK_EQUAL(events.back().spi, 0x1000U + many - 1);
}

TEST_CASE(packets_that_find_no_room_are_counted) {
  EventQueue queue;
  Packet packet;
  Octets esp(64);
  packet.data = esp.data();
  packet.length = 64;
  packet.reason = Reason::unknown_spi;
  packet.outer.family = Family::ipv4;
  packet.outer.protocol = protocol_esp;
  for (std::size_t number = 0; number < EventQueue::capacity_for_packets - 5; ++number) queue.tell(EventKind::hard_bytes, 0x1000);
  for (std::uint32_t number = 0; number < 100; ++number) {
    packet.outer.source = source(number);
    queue.notice(packet);
  }
  CHECK(queue.counters().suppressed >= 70);
  CHECK_EQUAL(queue.counters().lost, 100 - queue.counters().suppressed - 5);
  CHECK_EQUAL(queue.drain().size(), EventQueue::capacity_for_packets);
}

// An SA tells from threads that must not end for it.
TEST_CASE(an_event_for_which_there_is_no_memory_is_counted) {
  EventQueue queue;
  for (std::size_t number = 0; number < EventQueue::room; ++number) queue.tell(EventKind::hard_bytes, 0x1000);
  {
    const Scarcity scarcity(0);
    queue.tell(EventKind::hard_bytes, 0x2000);
  }
  CHECK_EQUAL(queue.counters().lost, 1U);
  CHECK_EQUAL(queue.drain().size(), EventQueue::room);
  queue.tell(EventKind::hard_bytes, 0x2001);
  CHECK(is_readable(queue));
  CHECK_EQUAL(queue.drain().size(), 1U);
}

TEST_CASE(an_event_says_what_the_packet_said) {
  EventQueue queue;
  for (const std::uint8_t protocol : {protocol_esp, protocol_ah}) {
    Octets octets(32);
    const std::size_t at = protocol == protocol_ah ? 4 : 0;
    store32(&octets[at], 0x01214f0d);
    store32(&octets[at + 4], 77);
    Packet packet;
    packet.data = octets.data();
    packet.length = 32;
    packet.outer = {};
    packet.outer.family = Family::ipv4;
    packet.outer.protocol = protocol;
    packet.outer.source = source(0x0a010101 + protocol);
    packet.outer.destination = source(0x0a020202);
    packet.reason = Reason::padding;
    queue.notice(packet);
    CHECK(queue.drain().empty());
    packet.reason = Reason::replayed;
    queue.notice(packet);
    const std::vector<Event> events = queue.drain();
    CHECK_EQUAL(events.size(), 1U);
    CHECK_EQUAL(events[0].tick, 0U);
    CHECK(events[0].kind == EventKind::replayed && events[0].source == packet.outer.source && events[0].destination == packet.outer.destination);
    CHECK_EQUAL(events[0].spi, 0x01214f0dU);
    CHECK_EQUAL(events[0].sequence, 77U);
    CHECK_EQUAL(events[0].protocol, protocol);
  }
}

// An operator has to see whose clock is wrong.
TEST_CASE(an_event_says_what_the_clocks_said) {
  EventQueue queue;
  const Keys keys(Cipher::aes_128_cbc, Integrity::hmac_sha1_96, 0x71);
  SaParameters parameters = keys.parameters();
  parameters.time = TimeWindow{.seconds = 7, .tick = 100, .origin = boot_milliseconds() - 5'000'000};
  Sa sa(parameters);
  const std::map<Reason, EventKind> kinds = {
      {Reason::too_old, EventKind::too_old}, {Reason::too_new, EventKind::too_new}, {Reason::replayed, EventKind::replayed}};
  for (const auto& [reason, kind] : kinds) {
    Octets octets(32);
    store32(&octets[0], sa.spi());
    store32(&octets[4], 12'345);
    Packet packet;
    packet.data = octets.data();
    packet.length = 32;
    packet.reason = reason;
    packet.sa = &sa;
    packet.outer.family = Family::ipv4;
    packet.outer.protocol = protocol_esp;
    packet.outer.source = source(0x0a010101);
    queue.notice(packet);
    const std::vector<Event> events = queue.drain();
    CHECK_EQUAL(events.size(), 1U);
    CHECK(events[0].kind == kind);
    CHECK_EQUAL(events[0].sequence, 12'345U);
    CHECK(events[0].own_stamp >= 50'000U && events[0].own_stamp < 51'000U);
    CHECK_EQUAL(events[0].tick, 100U);
    CHECK_EQUAL(events[0].time_window, 7U);
  }
}

TEST_CASE(octets_behind_an_ipv4_address_make_no_other_source) {
  EventQueue queue;
  Octets octets(32);
  Packet packet;
  packet.data = octets.data();
  packet.length = 32;
  packet.reason = Reason::replayed;
  packet.outer.family = Family::ipv4;
  packet.outer.protocol = protocol_esp;
  packet.outer.source = packet.outer.destination = source(0x0a010101);
  for (const std::uint8_t left_over : {std::uint8_t{0}, std::uint8_t{0x5a}}) {
    std::fill(packet.outer.source.begin() + 4, packet.outer.source.end(), left_over);
    std::fill(packet.outer.destination.begin() + 4, packet.outer.destination.end(), left_over);
    queue.notice(packet);
  }
  const std::vector<Event> events = queue.drain();
  CHECK_EQUAL(events.size(), 1U);
  CHECK(events[0].source == source(0x0a010101) && events[0].destination == source(0x0a010101));
}

TEST_CASE(a_source_is_told_of_once_in_a_minute) {
  NoticeLimit limit;
  const std::int64_t start = 1000;
  CHECK(limit.admits(EventKind::unknown_spi, source(1), start));
  CHECK(!limit.admits(EventKind::unknown_spi, source(1), start + NoticeLimit::source_interval - 1));
  CHECK(limit.admits(EventKind::replayed, source(1), start));
  CHECK(limit.admits(EventKind::unknown_spi, source(2), start));
  CHECK(limit.admits(EventKind::unknown_spi, source(1), start + NoticeLimit::source_interval));
}

TEST_CASE(all_sources_together_are_told_of_ten_times_in_a_second) {
  NoticeLimit limit;
  std::uint32_t number = 0;
  std::int64_t admitted = 0;
  for (std::int64_t now = 0; now < 60'000; ++now) admitted += limit.admits(EventKind::unknown_spi, source(++number), now);
  CHECK_EQUAL(admitted, 600 + NoticeLimit::total_burst - 1);
}

TEST_CASE(a_deadline_wakes_the_reader) {
  const auto queue = std::make_shared<EventQueue>();
  Limits limits;
  limits.soft_deadline = boot_milliseconds() + 20;
  limits.hard_deadline = boot_milliseconds() + 60;
  const auto lifetime = std::make_shared<Lifetime>(0x1000, limits, std::make_shared<Usage>(), queue);
  queue->watch(lifetime);
  std::vector<EventKind> told;
  while (told.size() < 2 && is_readable(*queue, 10'000)) {
    for (const Event& event : queue->drain()) told.push_back(event.kind);
  }
  CHECK(told == (std::vector{EventKind::soft_seconds, EventKind::hard_seconds}));
  CHECK(boot_milliseconds() >= limits.hard_deadline);
  CHECK(lifetime->is_over(0));
  CHECK(!is_readable(*queue, 1));
}

TEST_CASE(an_sa_that_is_gone_wakes_nobody) {
  const auto queue = std::make_shared<EventQueue>();
  {
    Limits limits;
    limits.hard_deadline = boot_milliseconds() + 10;
    queue->watch(std::make_shared<Lifetime>(0x1000, limits, std::make_shared<Usage>(), queue));
  }
  is_readable(*queue, 30);  // the timer may have been set; whoever comes finds nothing
  CHECK(queue->drain().empty());
  CHECK(!is_readable(*queue, 1));
}

TEST_CASE(threads_tell_and_one_drains) {
  EventQueue queue;
  std::vector<std::thread> threads;
  for (std::uint32_t spi = 0; spi < 4; ++spi) {
    threads.emplace_back([&queue, spi] {
      for (int turn = 0; turn < 200; ++turn) queue.tell(EventKind::soft_bytes, spi);
    });
  }
  std::size_t seen = 0;
  while (seen < 800 && is_readable(queue, 10'000)) seen += queue.drain().size();
  for (std::thread& thread : threads) thread.join();
  CHECK_EQUAL(seen, 800U);
  CHECK_EQUAL(queue.counters().lost, 0U);
}
