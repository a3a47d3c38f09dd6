#include "timed.hpp"

#include <deque>
#include <set>

#include "build.hpp"
#include "harness.hpp"
#include "memory.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

constexpr std::int64_t boot = 1'000'000'000;  // milliseconds; any moment will do
constexpr std::int64_t second = 1000;

TimeWindow window_of(std::uint32_t seconds, std::uint32_t tick = 10) { return {seconds, tick, boot, boot}; }

// A member: the same keys as all others, a Sender-ID and a clock of its own.
struct Member {
  Member(const Keys& keys, std::uint32_t sender, std::int64_t origin = boot, std::int64_t since = boot, std::uint32_t window = 64) {
    SaParameters parameters = keys.parameters();
    parameters.sender_id = sender;
    parameters.replay_window = window;
    parameters.time = TimeWindow{5, 10, origin, since};
    parameters.is_apart = true;
    sa = std::make_shared<Sa>(parameters);
    set = SaSet({sa});
  }
  Octets send(std::int64_t now, const Octets& inner = ipv4(Octets(40))) {
    Buffer buffer(inner);
    buffer.packet.sa = sa.get();
    esp.encapsulate({&buffer.packet, 1}, now);
    CHECK(buffer.packet.reason == Reason::delivered);
    return buffer.octets();
  }
  Reason receive(const Octets& wire, std::int64_t now) {
    Buffer buffer(wire);
    esp.decapsulate(set, {&buffer.packet, 1}, now);
    return buffer.packet.reason;
  }
  std::shared_ptr<Sa> sa;
  SaSet set;
  Esp esp;
};

Keys fresh(Cipher cipher, Integrity integrity) {
  static std::uint8_t fill = 0;  // the ledger goes on counting for keys that it has seen
  return {cipher, integrity, ++fill};
}

std::vector<Keys> suites() {
  return {fresh(Cipher::aes_128_gcm, Integrity::none),       fresh(Cipher::aes_256_gmac, Integrity::none),
          fresh(Cipher::aes_128_ctr, Integrity::hmac_sha1_96), fresh(Cipher::aes_128_cbc, Integrity::hmac_sha1_96),
          fresh(Cipher::aes_192_cbc, Integrity::hmac_sha1_96), fresh(Cipher::aes_256_cbc, Integrity::hmac_sha2_256_128),
          fresh(Cipher::triple_des_cbc, Integrity::hmac_sha1_96), fresh(Cipher::des_cbc, Integrity::hmac_md5_96)};
}

}  // namespace

TEST_CASE(a_stamp_is_the_time_in_ticks_and_goes_round) {
  const TimedReplay timed(window_of(5), 64);
  CHECK_EQUAL(timed.stamp(boot), 0U);
  CHECK_EQUAL(timed.stamp(boot + 9), 0U);
  CHECK_EQUAL(timed.stamp(boot + 10), 1U);
  CHECK_EQUAL(timed.stamp(boot - 1), 0xffffffffU);
  const std::int64_t wrap = boot + (std::int64_t{1} << 32) * 10;
  CHECK_EQUAL(timed.stamp(wrap - 1), 0xffffffffU);
  CHECK_EQUAL(timed.stamp(wrap + 25), 2U);
  CHECK(timed.judge(0xffffffff, wrap + 25) == Reason::delivered);
  CHECK(timed.judge(500 + 2, wrap + 25) == Reason::delivered);
  CHECK(timed.judge(501 + 2, wrap + 25) == Reason::too_new);
}

// Whoever has been restarted does not take what he took before, neither from a sender of whom he knows nothing nor from one who has sent again.
TEST_CASE(a_fresh_packet_does_not_let_in_what_was_sent_before_the_start) {
  for (const Keys& keys : suites()) {
    Member sender(keys, 1), receiver(keys, 2, boot, boot, 1024);
    std::vector<Octets> before, between;
    for (int count = 0; count < 10; ++count) before.push_back(sender.send(boot + 1000 + count));
    for (const Octets& wire : before) CHECK(receiver.receive(wire, boot + 1010) == Reason::delivered);
    Member restarted(keys, 2, boot, boot + 2000, 1024);
    for (int count = 0; count < 3; ++count) between.push_back(sender.send(boot + 2100));
    CHECK(restarted.receive(before[0], boot + 2000) == Reason::too_old);
    CHECK(restarted.receive(sender.send(boot + 2100), boot + 2100) == Reason::delivered);
    for (const Octets& wire : before) CHECK(restarted.receive(wire, boot + 2110) == Reason::too_old);
    for (const Octets& wire : between) CHECK(restarted.receive(wire, boot + 2110) == Reason::delivered);  // overtaken, and new
    for (const Octets& wire : between) CHECK(restarted.receive(wire, boot + 2110) == Reason::replayed);
  }
}

TEST_CASE(the_edges_of_a_time_window) {
  for (const std::uint32_t seconds : {1U, 5U, 30U, 100U}) {
    for (const std::uint32_t tick : {1U, 10U, 1000U}) {
      const TimedReplay timed(window_of(seconds, tick), 64);
      const std::int64_t now = boot + 1'000'000 * second, reach = seconds * second;
      const std::uint32_t own = timed.stamp(now), span = static_cast<std::uint32_t>(reach / tick);
      CHECK(timed.judge(own - span, now) == Reason::delivered);
      CHECK(timed.judge(own - span - 1, now) == Reason::too_old);
      CHECK(timed.judge(own + span, now) == Reason::delivered);
      CHECK(timed.judge(own + span + 1, now) == Reason::too_new);
      CHECK(timed.judge(own + 0x80000000U, now) != Reason::delivered);
    }
  }
}

TEST_CASE(values_out_of_range_are_refused) {
  for (const auto& [seconds, tick] : {std::pair{101U, 10U}, std::pair{5U, 0U}, std::pair{5U, 1001U}}) {
    bool is_refused = false;
    try {
      TimedReplay timed({seconds, tick, 0, 0}, 64);
    } catch (const std::exception&) {
      is_refused = true;
    }
    CHECK(is_refused);
  }
}

TEST_CASE(every_suite_tells_replays_by_time_and_by_counter) {
  for (const Keys& keys : suites()) {
    Member alice(keys, 5), bob(keys, 6), carol(keys, 7);
    std::vector<Octets> sent;
    std::set<Octets> different;
    for (int packet = 0; packet < 40; ++packet) {
      sent.push_back((packet % 3 ? alice : bob).send(boot + second + packet));
      different.insert(sent.back());
    }
    CHECK_EQUAL(different.size(), sent.size());
    for (std::size_t index = sent.size(); index-- > 0;) CHECK(carol.receive(sent[index], boot + second + 50) == Reason::delivered);
    for (const Octets& packet : sent) {
      CHECK(carol.receive(packet, boot + second + 50) == Reason::replayed);
      CHECK(carol.receive(packet, boot + 7 * second) == Reason::too_old);
    }
    CHECK_EQUAL(carol.sa->timed()->senders(), 2U);
    CHECK(carol.receive(alice.send(boot + 20 * second), boot + 14 * second) == Reason::too_new);
    CHECK(carol.receive(alice.send(boot + 20 * second), boot + 25 * second) == Reason::delivered);
  }
}

TEST_CASE(no_octet_is_added) {
  for (const Keys& keys : suites()) {
    Member timed(keys, 5);
    Esp esp;
    Buffer plain(ipv4(Octets(40)));
    const auto sa = keys.sa();
    plain.packet.sa = sa.get();
    esp.encapsulate({&plain.packet, 1});
    CHECK_EQUAL(timed.send(boot).size(), plain.octets().size());
    CHECK_EQUAL(timed.sa->inner_mtu(1500), sa->inner_mtu(1500));
    // Whoever does not check replays reads it as plain ESP.
    Buffer wire(timed.send(boot + 77 * second));
    esp.decapsulate(SaSet({sa}), {&wire.packet, 1});
    CHECK(wire.packet.reason == Reason::delivered);
  }
}

TEST_CASE(null_has_time_and_no_counter) {
  const Keys keys = fresh(Cipher::null, Integrity::hmac_sha1_96);
  Member alice(keys, 5), carol(keys, 7);
  const Octets packet = alice.send(boot + second);
  CHECK(carol.receive(packet, boot + second) == Reason::delivered);
  CHECK(carol.receive(packet, boot + 5 * second) == Reason::delivered);
  CHECK(carol.receive(packet, boot + 7 * second) == Reason::too_old);
}

TEST_CASE(a_forged_stamp_or_counter_leaves_no_trace) {
  for (const Keys& keys : suites()) {
    Member alice(keys, 5), carol(keys, 7);
    Octets later = alice.send(boot + second), first = alice.send(boot + second);
    later[20 + 7] ^= 1;  // the stamp
    CHECK(carol.receive(later, boot + second) == Reason::authentication);
    first[20 + 8 + 7] ^= 1;  // the counter, or the IV that hides it
    const Reason forged = carol.receive(first, boot + second);
    CHECK(forged == Reason::authentication || forged == Reason::no_sender_id);
    CHECK_EQUAL(carol.sa->timed()->senders(), 0U);
  }
}

TEST_CASE(an_iv_that_no_member_made_is_refused_before_it_costs_anything) {
  const Keys keys = fresh(Cipher::aes_128_cbc, Integrity::hmac_sha1_96);
  Member carol(keys, 7);
  const auto stranger = keys.sa();  // knows the keys and not the rule: random IVs, sequence numbers from 1
  Esp esp;
  Buffer wire(ipv4(Octets(40)));
  wire.packet.sa = stranger.get();
  esp.encapsulate({&wire.packet, 1});
  CHECK(carol.receive(wire.octets(), boot) == Reason::no_sender_id);
  CHECK(carol.receive(wire.octets(), boot + 60 * second) == Reason::too_old);
}

TEST_CASE(a_receiver_that_starts_again_believes_no_old_stamp_of_whom_it_does_not_know) {
  for (const Keys& keys : suites()) {
    Member alice(keys, 5), carol(keys, 7);
    const Octets seen = alice.send(boot + 10 * second);
    CHECK(carol.receive(seen, boot + 10 * second) == Reason::delivered);
    Member again(keys, 8, boot, boot + 11 * second);
    CHECK(again.receive(seen, boot + 11 * second) == Reason::too_old);
    CHECK(again.receive(alice.send(boot + 11 * second), boot + 11 * second) == Reason::delivered);
    const Octets held_back = alice.send(boot + 12 * second), next = alice.send(boot + 12 * second);
    CHECK(again.receive(next, boot + 12 * second) == Reason::delivered);
    CHECK(again.receive(held_back, boot + 16 * second) == Reason::delivered);  // its first copy, inside the window
    CHECK(again.receive(held_back, boot + 16 * second) == Reason::replayed);
  }
}

TEST_CASE(clocks_apart_and_told_anew) {
  const Keys keys = fresh(Cipher::aes_256_gcm, Integrity::none);
  Member fast(keys, 5, boot - 3 * second), slow(keys, 6, boot + 3 * second), carol(keys, 7);
  CHECK(carol.receive(fast.send(boot + 60 * second), boot + 60 * second) == Reason::delivered);
  CHECK(carol.receive(slow.send(boot + 60 * second), boot + 60 * second) == Reason::delivered);
  CHECK(slow.receive(fast.send(boot + 60 * second), boot + 60 * second) == Reason::too_new);
  CHECK(fast.receive(slow.send(boot + 60 * second), boot + 60 * second) == Reason::too_old);
  const Octets seen = fast.send(boot + 61 * second);
  CHECK(carol.receive(seen, boot + 61 * second) == Reason::delivered);
  fast.sa->timed()->set_origin(boot);
  slow.sa->timed()->set_origin(boot);
  CHECK(slow.receive(fast.send(boot + 62 * second), boot + 62 * second) == Reason::delivered);
  CHECK(fast.receive(slow.send(boot + 62 * second), boot + 62 * second) == Reason::delivered);
  carol.sa->timed()->set_origin(boot + 5 * second);  // turned back: what was seen stays seen
  CHECK(carol.receive(seen, boot + 67 * second) == Reason::replayed);
}

TEST_CASE(a_full_table_gives_up_those_whose_packets_are_all_too_old) {
  TimedReplay timed(window_of(5), 64);
  constexpr std::uint32_t limit = SenderBudget::senders(64);
  const std::int64_t start = boot + 100 * second;
  for (std::uint32_t sender = 0; sender < limit; ++sender) {
    CHECK(timed.accept(sender, 9, timed.stamp(start + (sender < 10 ? 0 : second)), start + second) == Reason::delivered);
  }
  const auto add = [&](std::uint32_t sender, std::int64_t now) { return timed.accept(sender, 9, timed.stamp(now), now); };
  CHECK(add(limit, start + 4 * second) == Reason::too_many_senders);
  CHECK(add(limit, start + 5 * second + 10) == Reason::delivered);
  CHECK_EQUAL(timed.senders(), limit - 10U + 1U);
  // Our clock is set back, so that the stamp of a packet that was seen is acceptable again; its window is gone, and what it knew is not.
  timed.set_origin(boot + 5 * second);
  const std::uint32_t old = static_cast<std::uint32_t>(100 * second / 10);
  CHECK(timed.judge(old, start + 6 * second) == Reason::delivered);
  CHECK(timed.look(3, 9, old, start + 6 * second) == Reason::too_old);
  CHECK(timed.accept(3, 9, old, start + 6 * second) == Reason::too_old);
  CHECK(timed.look(limit - 1, 9, old + 100, start + 6 * second) == Reason::replayed);
}

// A look at all senders takes as long as thousands of packets, and the other senders' wait meanwhile.
TEST_CASE(a_full_table_is_looked_through_only_where_somebody_may_go) {
  TimedReplay timed(window_of(5), 4096);
  constexpr std::uint32_t limit = SenderBudget::senders(4096);
  const std::int64_t start = boot + 100 * second;
  const auto add = [&](std::uint32_t sender, std::uint64_t number, std::int64_t now) { return timed.accept(sender, number, timed.stamp(now), now); };
  for (std::uint32_t sender = 0; sender < limit; ++sender) CHECK(add(sender, 9, start) == Reason::delivered);
  for (std::uint32_t packet = 0; packet < 1000; ++packet) CHECK(add(limit + packet, 9, start + 4 * second) == Reason::too_many_senders);
  CHECK_EQUAL(timed.scans(), 0U);
  // All but one send again, so that one goes when its time has come, and its successor finds the table full again.
  for (std::uint32_t sender = 1; sender < limit; ++sender) CHECK(add(sender, 10, start + 4 * second) == Reason::delivered);
  CHECK(add(limit, 9, start + 5 * second + 10) == Reason::delivered);
  CHECK_EQUAL(timed.scans(), 1U);
  for (std::uint32_t packet = 1; packet < 1000; ++packet) CHECK(add(limit + packet, 9, start + 9 * second) == Reason::too_many_senders);
  CHECK_EQUAL(timed.scans(), 1U);
  // Nobody may go of those that have sent again: that takes one look, and the next one has to wait.
  for (std::uint32_t sender = 1; sender <= limit; ++sender) CHECK(add(sender, 11, start + 9 * second) == Reason::delivered);
  for (std::uint32_t packet = 1; packet < 1000; ++packet) CHECK(add(limit + packet, 9, start + 10 * second) == Reason::too_many_senders);
  CHECK_EQUAL(timed.scans(), 2U);
  CHECK(add(limit + 1, 9, start + 14 * second + 10) == Reason::delivered);
  CHECK_EQUAL(timed.senders(), 1U);
}

// A member has one of its senders expire with each tick, and begins to send as another one.
TEST_CASE(nobody_can_have_a_full_table_looked_through_with_every_tick) {
  TimedReplay timed(window_of(5), 4096);
  constexpr std::uint32_t limit = SenderBudget::senders(4096);
  constexpr std::int64_t tick = 10, ticks = 100;
  const std::int64_t start = boot + 100 * second;
  const auto add = [&](std::uint32_t sender, std::int64_t sent, std::int64_t now) { return timed.accept(sender, 9, timed.stamp(sent), now); };
  for (std::uint32_t sender = 0; sender < limit; ++sender) {
    CHECK(add(sender, start + (sender < ticks ? sender * tick : 4 * second), start + second) == Reason::delivered);
  }
  std::uint32_t admitted = 0;
  for (std::int64_t number = 0; number < ticks; ++number) {
    const std::int64_t now = start + 5 * second + (number + 1) * tick;
    admitted += add(limit + static_cast<std::uint32_t>(number), now, now) == Reason::delivered;
  }
  CHECK(timed.scans() <= 6);
  CHECK(admitted > ticks / 2);
}

TEST_CASE(windows_of_time_beside_a_ring_remember_more) {
  TimedReplay timed(window_of(5), 64);
  const std::int64_t start = boot + 100 * second;
  const auto accept = [&](std::uint32_t sender, std::uint64_t number) { return timed.accept(sender, number, timed.stamp(start), start); };
  CHECK(accept(1, 1000) == Reason::delivered);
  timed.keep_at_least(4096);
  for (const std::uint64_t seen : {1000, 936, 1}) CHECK(accept(1, seen) == Reason::replayed);
  CHECK(accept(2, 5000) == Reason::delivered);
  CHECK(accept(2, 1000) == Reason::delivered);
  CHECK(accept(2, 1000) == Reason::replayed);
  CHECK(timed.fits(window_of(5), 64));
  TimedReplay without(window_of(5), 0);  // packets do not name their sender
  without.keep_at_least(4096);
  CHECK_EQUAL(without.octets(), 0U);
}

TEST_CASE(bursts_of_many_suites_keep_their_order) {
  std::vector<std::shared_ptr<Sa>> sas;
  for (const Keys& keys : suites()) {
    SaParameters parameters = keys.parameters(static_cast<std::uint32_t>(1000 + sas.size()));
    parameters.sender_id = 9;
    parameters.replay_window = 1024;
    if (sas.size() != 1) parameters.time = window_of(5);
    sas.push_back(std::make_shared<Sa>(parameters));
  }
  const SaSet set(sas);
  Esp esp;
  Random random(8);
  for (int turn = 0; turn < 20; ++turn) {
    std::vector<Octets> inner;
    std::deque<Buffer> buffers;
    std::vector<Packet> burst;
    std::vector<bool> is_repeated;
    for (int index = 0; index < 64; ++index) {
      inner.push_back(ipv4(random.octets(random.below(300))));
      buffers.emplace_back(inner.back());
      buffers.back().packet.sa = sas[random.below(static_cast<std::uint32_t>(sas.size()))].get();
      burst.push_back(buffers.back().packet);
    }
    esp.encapsulate(burst, boot + turn * 100);
    std::deque<Buffer> copies;
    for (const Packet& packet : burst) copies.emplace_back(Octets(packet.data, packet.data + packet.length));
    for (const Buffer& copy : copies) {  // every second one once before, as somebody else would who was faster
      is_repeated.push_back(random.below(2) == 0);
      Buffer once(copy.octets());
      if (is_repeated.back()) esp.decapsulate(set, {&once.packet, 1}, boot + turn * 100);
    }
    std::vector<Packet> received;
    for (const Buffer& copy : copies) received.push_back(copy.packet);
    esp.decapsulate(set, received, boot + turn * 100 + 3);
    for (std::size_t index = 0; index < received.size(); ++index) {
      CHECK(received[index].reason == (is_repeated[index] ? Reason::replayed : Reason::delivered));
      if (!is_repeated[index]) CHECK(Octets(received[index].data, received[index].data + received[index].length) == inner[index]);
    }
  }
}

TEST_CASE(windows_of_time_are_widened_one_by_one) {
  TimedReplay timed(window_of(5), 64);
  const std::int64_t start = boot + 100 * second;
  const auto accept = [&](std::uint32_t sender, std::uint64_t number) { return timed.accept(sender, number, timed.stamp(start), start); };
  for (std::uint32_t sender = 0; sender < 100; ++sender) CHECK(accept(sender, 1000) == Reason::delivered);
  {
    const Scarcity scarcity(0);
    timed.keep_at_least(4096);
    CHECK(accept(1, 1100) == Reason::delivered);
    for (const std::uint64_t number : {1100, 900}) CHECK(accept(1, number) == Reason::replayed);
  }
  CHECK(accept(2, 5000) == Reason::delivered);
  CHECK(accept(2, 1001) == Reason::delivered);
  for (const std::uint64_t number : {1001, 1000, 936}) CHECK(accept(2, number) == Reason::replayed);
}
