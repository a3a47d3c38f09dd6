#include "lifetime.hpp"

#include <array>
#include <thread>

#include "boot_clock.hpp"
#include "build.hpp"
#include "harness.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

std::vector<EventKind> kinds(EventQueue& queue) {
  std::vector<EventKind> result;
  for (const Event& event : queue.drain()) result.push_back(event.kind);
  return result;
}

// One packet each way; what became of it.
Reason send(Sa& sa, std::size_t size, Buffer& buffer) {
  Esp esp;
  buffer = Buffer(ipv4(Octets(size)));
  buffer.packet.sa = &sa;
  esp.encapsulate({&buffer.packet, 1});
  return buffer.packet.reason;
}

Reason receive(const std::shared_ptr<Sa>& sa, const Octets& octets) {
  Esp esp;
  Buffer buffer(octets);
  esp.decapsulate(SaSet({sa}), {&buffer.packet, 1});
  return buffer.packet.reason;
}

}  // namespace

TEST_CASE(an_sa_ends_with_the_octet_that_its_limit_names) {
  const auto queue = std::make_shared<EventQueue>();
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0x91);
  SaParameters parameters = keys.parameters();
  // 20 + 100 octets, padding to a multiple of 4 with the 2 octets of the trailer: 124 octets are encrypted.
  parameters.limits.soft_bytes = 2 * 124;
  parameters.limits.hard_bytes = 3 * 124;
  parameters.events = queue;
  const auto sa = std::make_shared<Sa>(parameters);
  const auto peer = Keys(Cipher::aes_128_gcm, Integrity::none, 0x91).sa();  // the same keys and SPI: its packets count too, without limits
  Buffer buffer{{}};
  CHECK(send(*sa, 100, buffer) == Reason::delivered);
  CHECK(queue->drain().empty());
  CHECK(receive(sa, buffer.octets()) == Reason::delivered);
  CHECK(kinds(*queue) == std::vector{EventKind::soft_bytes});
  CHECK(send(*sa, 100, buffer) == Reason::delivered);
  CHECK(kinds(*queue) == std::vector{EventKind::hard_bytes});
  const Octets late = buffer.octets();
  CHECK(send(*sa, 100, buffer) == Reason::lifetime);
  CHECK(receive(sa, late) == Reason::lifetime);
  CHECK(receive(peer, late) == Reason::delivered);
  CHECK(queue->drain().empty());
  CHECK_EQUAL(sa->counters().encrypted_packets.load(), 2U);
  CHECK_EQUAL(sa->counters().encrypted_bytes.load(), 240U);
  CHECK_EQUAL(sa->counters().decrypted_packets.load(), 1U);
}

// Who copies packets need not have the keys, and may not use up what they may protect. In one burst each of them verifies.
TEST_CASE(copies_do_not_count_against_a_limit) {
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0x97);
  SaParameters parameters = keys.parameters();
  parameters.is_apart = true;
  Sa sender(parameters);
  parameters.replay_window = 64;
  parameters.limits.hard_packets = 2;
  const auto receiver = std::make_shared<Sa>(parameters);
  Buffer buffer{{}};
  CHECK(send(sender, 100, buffer) == Reason::delivered);
  std::array<Buffer, 3> copies = {Buffer(buffer.octets()), Buffer(buffer.octets()), Buffer(buffer.octets())};
  std::array<Packet, 3> burst = {copies[0].packet, copies[1].packet, copies[2].packet};
  Esp().decapsulate(SaSet({receiver}), burst);
  CHECK(burst[0].reason == Reason::delivered && burst[1].reason == Reason::replayed && burst[2].reason == Reason::replayed);
  for (const Reason expected : {Reason::delivered, Reason::lifetime}) {
    CHECK(send(sender, 100, buffer) == Reason::delivered);
    CHECK(receive(receiver, buffer.octets()) == expected);
  }
}

TEST_CASE(sas_that_follow_each_other_count_in_one) {
  SaParameters parameters;
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0x98);
  parameters = keys.parameters();
  const auto first = std::make_shared<Sa>(parameters);
  Buffer buffer{{}};
  CHECK(send(*first, 100, buffer) == Reason::delivered);
  CHECK_EQUAL(first->counters().encrypted_packets.load(), 1U);
  parameters.counters = std::make_shared<SaCounters>();
  const auto second = std::make_shared<Sa>(parameters);
  parameters.sender_id = 2;
  const auto third = std::make_shared<Sa>(parameters);
  CHECK(send(*third, 100, buffer) == Reason::delivered);
  CHECK(send(*second, 100, buffer) == Reason::delivered);  // a thread that has not heard of the third
  CHECK(receive(third, buffer.octets()) == Reason::delivered);
  CHECK_EQUAL(parameters.counters->encrypted_packets.load(), 2U);
  CHECK_EQUAL(parameters.counters->encrypted_bytes.load(), 240U);
  CHECK_EQUAL(third->counters().decrypted_bytes.load(), 120U);
  CHECK_EQUAL(first->counters().encrypted_packets.load(), 1U);
}

TEST_CASE(a_packet_that_does_not_fit_is_discarded_and_ends_the_sa) {
  const auto queue = std::make_shared<EventQueue>();
  SaParameters parameters;
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0x92);
  parameters = keys.parameters();
  parameters.limits.hard_bytes = 200;
  parameters.events = queue;
  const auto sa = std::make_shared<Sa>(parameters);
  Buffer buffer{{}};
  CHECK(send(*sa, 100, buffer) == Reason::delivered);
  CHECK(send(*sa, 100, buffer) == Reason::lifetime);
  CHECK(send(*sa, 1, buffer) == Reason::lifetime);  // it would fit, but the SA is over
  CHECK(kinds(*queue) == std::vector{EventKind::hard_bytes});
}

TEST_CASE(what_does_not_verify_uses_nothing_up) {
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0x93);
  SaParameters parameters = keys.parameters();
  parameters.limits.hard_packets = 2;
  const auto sa = std::make_shared<Sa>(parameters);
  Buffer buffer{{}};
  CHECK(send(*sa, 100, buffer) == Reason::delivered);
  Octets forged = buffer.octets();
  forged.back() ^= 1;
  for (int turn = 0; turn < 10; ++turn) CHECK(receive(sa, forged) == Reason::authentication);
  CHECK(receive(sa, buffer.octets()) == Reason::delivered);
  CHECK(receive(sa, buffer.octets()) == Reason::lifetime);
}

TEST_CASE(an_sa_ends_in_time_whether_or_not_anybody_drains) {
  const auto queue = std::make_shared<EventQueue>();
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0x94);
  SaParameters parameters = keys.parameters();
  parameters.limits.hard_deadline = boot_milliseconds() - 1;
  parameters.events = queue;
  Sa sa(parameters);
  Buffer buffer{{}};
  CHECK(send(sa, 100, buffer) == Reason::lifetime);
  CHECK(kinds(*queue) == std::vector{EventKind::hard_seconds});
}

// A daemon makes SAs for months.
TEST_CASE(sas_that_are_gone_are_watched_no_more) {
  const auto queue = std::make_shared<EventQueue>();
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0x9e);
  const auto make = [&](std::int64_t deadline) {
    SaParameters parameters = keys.parameters();
    parameters.limits.hard_deadline = deadline;
    parameters.events = queue;
    return std::make_shared<Sa>(parameters);
  };
  const std::int64_t now = boot_milliseconds();
  const auto kept = make(now + 1'000'000), ended = make(now);
  for (int count = 0; count < 100; ++count) CHECK(make(now + 1'000'000) != nullptr);
  CHECK(kinds(*queue) == std::vector{EventKind::hard_seconds});
  CHECK_EQUAL(queue->watched(), 1U);
}

TEST_CASE(what_was_used_before_counts_for_an_sa_that_is_made_anew) {
  const auto queue = std::make_shared<EventQueue>();
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0x95);
  SaParameters parameters = keys.parameters();
  parameters.limits.soft_packets = 3;
  parameters.limits.hard_packets = 4;
  parameters.events = queue;
  Buffer buffer{{}};
  for (int turn = 0; turn < 2; ++turn) CHECK(send(*std::make_shared<Sa>(parameters), 9, buffer) == Reason::delivered);
  CHECK(queue->drain().empty());
  parameters.sender_id = 9;  // another Sender-ID, the same key
  Sa sa(parameters);
  CHECK(send(sa, 9, buffer) == Reason::delivered);
  CHECK(kinds(*queue) == std::vector{EventKind::soft_packets});
  CHECK(send(sa, 9, buffer) == Reason::delivered);
  CHECK(send(sa, 9, buffer) == Reason::lifetime);
}

TEST_CASE(threads_share_a_limit_exactly) {
  const auto queue = std::make_shared<EventQueue>();
  Limits limits;
  limits.soft_packets = 30'000;
  limits.hard_bytes = 40'000 * 100;
  Lifetime lifetime(0x1000, limits, std::make_shared<Usage>(), queue);
  std::atomic<std::uint64_t> spent{0};
  std::vector<std::thread> threads;
  for (int index = 0; index < 4; ++index) {
    threads.emplace_back([&] {
      for (int turn = 0; turn < 20'000; ++turn) spent += !lifetime.is_over(0) && lifetime.spend(100);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_EQUAL(spent.load(), 40'000U);
  CHECK(kinds(*queue) == (std::vector{EventKind::soft_packets, EventKind::hard_bytes}));
}

TEST_CASE(a_sequence_is_said_to_run_out_in_time) {
  const auto queue = std::make_shared<EventQueue>();
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0x96);
  SaParameters parameters = keys.parameters();
  parameters.events = queue;
  parameters.sender_id_bits = 32;
  const std::uint64_t limit = 0xffffffff;
  parameters.last_sequence = limit - limit / 16 - 2;
  {
    Sa sa(parameters);
    CHECK(sa.next_sequence().reason == Reason::delivered);
    CHECK(queue->drain().empty());
    CHECK(sa.next_sequence().reason == Reason::delivered);
    CHECK(kinds(*queue) == std::vector{EventKind::soft_sequence});
    CHECK(sa.next_sequence().reason == Reason::delivered);
    CHECK(queue->drain().empty());
  }
  parameters.last_sequence = limit - 1;
  Sa sa(parameters);
  CHECK(sa.next_sequence().reason == Reason::delivered);
  for (int turn = 0; turn < 3; ++turn) CHECK(sa.next_sequence().reason == Reason::sequence_exhausted);
  CHECK(kinds(*queue) == (std::vector{EventKind::soft_sequence, EventKind::hard_sequence}));
}
