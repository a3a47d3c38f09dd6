// The life of a port, and what it cannot be made of.
#include "port_rig.hpp"

#include <fcntl.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <new>
#include <set>
#include <thread>

#include "bpf.hpp"
#include "memory.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

TEST_CASE(a_port_moves_packets_both_ways) {
  if (!has_own_network()) return;
  Rig rig;
  const auto sa = Keys(Cipher::aes_128_gcm, Integrity::none, 0x31).sa();
  rig.port.set_sas({sa}, {{rig.queue, {sa}}});
  rig.port.start();
  Random random(14);
  for (const std::uint32_t size : {0U, 1U, 100U, 1400U}) CHECK(rig.round_trip(ipv4(random.octets(size))));
  rig.port.stop();
  CHECK_EQUAL(sum(rig.port.counters(), "outbound_"), 4U);
  CHECK_EQUAL(sum(rig.port.counters(), "inbound_"), 4U);
  CHECK(rig.port.fault().empty());
}

TEST_CASE(sas_change_while_packets_flow) {
  if (!has_own_network()) return;
  Rig rig;
  std::vector<std::shared_ptr<Sa>> sas;
  for (std::uint8_t number = 0; number < 8; ++number) {
    sas.push_back(Keys(number % 2 ? Cipher::aes_128_cbc : Cipher::aes_256_gcm, number % 2 ? Integrity::hmac_sha1_96 : Integrity::none,
                       static_cast<std::uint8_t>(0x40 + number)).sa(1000U + number));
  }
  rig.port.set_sas(sas, {{rig.queue, {sas[0]}}});
  rig.port.start();
  std::atomic<bool> is_done{false};
  std::thread control([&] {  // what Python does, as fast as it goes
    for (std::size_t turn = 0; !is_done; ++turn) {
      rig.port.set_sas(sas, {{rig.queue, {sas[turn % sas.size()]}}});
      static_cast<void>(sum(rig.port.counters(), "") + sum(rig.port.traffic(), ""));
      static_cast<void>(sas[turn % sas.size()]->counters().encrypted_packets.load());
      rig.port.set_wire_mtu(turn % 2 ? 1500 : 1400);
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  });
  Random random(15);
  std::set<std::uint32_t> used;
  bool is_whole = true;
  for (int packet = 0; packet < 1500 && is_whole; ++packet) is_whole = rig.round_trip(ipv4(random.octets(64)));
  CHECK(is_whole);
  is_done = true;
  control.join();
  rig.port.stop();
  for (const auto& sa : sas) {
    if (sa->counters().encrypted_packets != 0) used.insert(sa->spi());
  }
  CHECK(used.size() > 1);
  CHECK_EQUAL(sum(rig.port.counters(), "outbound_delivered"), 1500U);
  CHECK_EQUAL(sum(rig.port.counters(), "inbound_delivered"), 1500U);
  CHECK_EQUAL(sum(rig.port.counters(), ""), 3000U);
}

TEST_CASE(an_sa_that_was_taken_away_is_wiped_at_once) {
  if (!has_own_network()) return;
  Rig rig;
  auto sa = Keys(Cipher::aes_128_gcm, Integrity::none, 0x32).sa();
  rig.port.set_sas({sa}, {{rig.queue, {sa}}});
  rig.port.start();
  CHECK(rig.round_trip(ipv4(Octets(10))));
  const std::weak_ptr<Sa> watched = sa;
  sa.reset();
  rig.port.set_sas({}, {});
  CHECK(wait_until([&watched] { return watched.expired(); }));  // idle threads hold nothing
  rig.to_protect.send(frame_around(ipv4(Octets(10))));
  CHECK(rig.comes_to("outbound_no_sa", 1));
  CHECK_EQUAL(sum(rig.port.counters(), "outbound_no_sa"), 1U);
}

TEST_CASE(a_port_starts_and_stops_again_and_again) {
  if (!has_own_network()) return;
  Rig rig;
  const auto sa = Keys(Cipher::aes_128_gcm, Integrity::none, 0x33).sa();
  for (int turn = 0; turn < 20; ++turn) {
    rig.port.set_sas({sa}, {{rig.queue, {sa}}});
    rig.port.start();
    CHECK(rig.round_trip(ipv4(Octets(turn))));
    rig.port.remove_outbound(rig.queue);
    rig.queue = rig.port.add_outbound({rig.out.number()});
    rig.port.stop();
  }
}

TEST_CASE(a_burst_of_thousands_loses_nothing_uncounted) {
  if (!has_own_network()) return;
  Rig rig;
  const auto sa = Keys(Cipher::aes_128_gcm, Integrity::none, 0x34).sa();
  rig.port.set_sas({sa}, {{rig.queue, {sa}}});
  constexpr std::uint32_t count = 5000;
  for (std::uint32_t number = 0; number < count; ++number) rig.to_protect.send(frame_around(ipv4(Octets(100))));  // queued while nobody reads
  rig.port.start();
  std::uint32_t arrived = 0;
  std::set<std::uint32_t> sequences;
  for (Octets esp = rig.core.receive(); !esp.empty(); esp = rig.core.receive(arrived == count ? 1 : 3000)) {
    ++arrived;
    sequences.insert(load32(&esp[14 + 20 + 4]));
    rig.kernel.send(esp);
  }
  CHECK_EQUAL(arrived, count);
  CHECK_EQUAL(sequences.size(), count);
  CHECK(rig.comes_to("inbound_", count));
  CHECK_EQUAL(sum(rig.port.counters(), "outbound_delivered"), count);
  CHECK_EQUAL(sum(rig.port.counters(), "inbound_delivered"), count);
}

TEST_CASE(queues_come_and_go_under_a_flood) {
  if (!has_own_network()) return;
  Rig rig(has_bpf_ring() ? ReceiveMethod::bpf : ReceiveMethod::tap);
  const Descriptor other = open_tap("other");
  const auto sa = Keys(Cipher::aes_128_cbc, Integrity::hmac_sha2_512_256, 0x3b).sa();
  rig.port.set_sas({}, {{rig.queue, {sa}}});
  rig.port.start();
  std::atomic<bool> is_done{false};
  std::uint64_t sent = 0;
  std::thread sender([&] {
    const Octets frame = frame_around(ipv4(Octets(1400), {.protocol = protocol_udp}));
    for (; !is_done; ++sent) rig.to_protect.send(frame);
  });
  for (int turn = 0; turn < 100; ++turn) {
    const std::size_t queue = rig.port.add_outbound({other.number()});
    rig.port.remove_outbound(queue);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  is_done = true;
  sender.join();
  rig.port.stop();
  CHECK(rig.count("outbound_delivered") > 0);
  std::uint64_t waiting = sum(rig.port.discard(), "outbound");
  for (Octets room(3000); read(rig.out.number(), room.data(), room.size()) > 0;) ++waiting;
  CHECK_EQUAL(rig.count("outbound_") + sum(rig.port.overruns(), "outbound") + waiting + statistic_of("out", tx_dropped), sent);
}

TEST_CASE(what_a_port_with_workers_cannot_be_made_of) {
  if (!has_own_network()) return;
  const auto says = [](const PortParameters& parameters, const std::string& text) {
    try {
      Port port(parameters);
    } catch (const EngineError& error) {
      return std::string(error.what()).find(text) != std::string::npos;
    }
    return false;
  };
  const std::vector<Descriptor> in = open_tap("in", 2);
  CHECK(says({.wan = "wan", .inbound_taps = {}, .token = token, .wire_mtu = 1500}, "1 to 32 workers, not 0"));
  CHECK(says({.wan = "wan", .inbound_taps = numbers_of(in), .token = token, .wire_mtu = 1500, .processors = {100000}}, "processor 100000 is not there"));
  Port port({.wan = "wan", .inbound_taps = numbers_of(in), .token = token, .wire_mtu = 1500, .processors = {sched_getcpu()}});
  const Descriptor out = open_tap("out");
  bool is_refused = false;
  try {
    port.add_outbound({out.number()});
  } catch (const EngineError&) {
    is_refused = true;
  }
  CHECK(is_refused);
  port.start();
  port.stop();
}

namespace {

template <typename Attempt>
bool finds_no_memory(Attempt attempt) {
  try {
    attempt();
  } catch (const std::bad_alloc&) {
    return true;
  }
  return false;
}

}  // namespace

// Python closes the TAPs of what could not be added, and starts again what could not be started.
TEST_CASE(a_port_that_finds_no_memory_is_as_it_was) {
  if (!has_bpf_ring()) return;
  Rig rig(ReceiveMethod::bpf);
  const Descriptor other = open_tap("other");
  const std::vector<int> taps = {other.number()};
  CHECK(finds_no_memory([&] {
    const Scarcity scarcity(4096);  // less than the verifier may have to say
    rig.port.add_outbound(taps);
  }));
  CHECK(refusal_of([&] { rig.port.remove_outbound(rig.queue + 1); }) == "there is no outbound queue 1");
  CHECK(finds_no_memory([&] {
    const Scarcity scarcity(0);
    rig.port.start();
  }));
  CHECK(refusal_of([&] { rig.port.start(); }).empty());
  rig.port.stop();
}

TEST_CASE(a_thread_that_finds_no_memory_says_so_and_ends_alone) {
  if (!has_own_network()) return;
  Rig rig;
  rig.port.start();
  const Octets frame = frame_around(ipv4(Octets(10)));
  const Descriptor queue(dup(rig.out.number())), no_queue(open("/", O_RDONLY | O_DIRECTORY));
  CHECK(dup2(no_queue.number(), rig.out.number()) >= 0);  // there is something to read, and reading fails, of which there is much to say
  {
    const Scarcity scarcity(0);
    rig.to_protect.send(frame);
    CHECK(wait_until([&rig] { return !rig.port.fault().empty(); }));
  }
  CHECK(rig.port.fault() == "no memory");
  rig.port.stop();
}

namespace {

std::int64_t processor_time() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return time.tv_sec * std::int64_t{1000} + time.tv_nsec / 1'000'000;
}

}  // namespace

TEST_CASE(a_port_at_rest_takes_no_processor) {
  if (!has_own_network()) return;
  for (const ReceiveMethod method : {ReceiveMethod::tap, ReceiveMethod::ring, ReceiveMethod::bpf}) {
    if (method == ReceiveMethod::bpf && !has_bpf_ring()) continue;
    Rig rig(method);
    const EspTable table(rig.port);
    const Keys keys(Cipher::aes_128_gcm, Integrity::none, static_cast<std::uint8_t>(0xd0 + static_cast<int>(method)));
    const auto sa = keys.sa();
    rig.port.set_sas({sa}, {{rig.queue, {sa}}});
    rig.port.start();
    constexpr std::uint32_t count = 2000;
    for (std::uint32_t number = 0; number < count; ++number) rig.to_protect.send(frame_around(ipv4(Octets(50), {.protocol = protocol_udp})));
    CHECK(rig.comes_to("outbound_delivered", count));
    for (Octets frame = rig.core.receive(); !frame.empty(); frame = rig.core.receive(10)) rig.core.send(frame);
    CHECK(rig.comes_to("inbound_delivered", count));
    CHECK(wait_until([] {  // soon
      const std::int64_t before = processor_time();
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      return processor_time() - before < 50;
    }));
    rig.port.stop();
  }
}

// Whoever starts a port may be elsewhere by then, and its threads make sockets anew.
TEST_CASE(threads_are_in_the_network_of_their_port) {
  if (!has_own_network()) return;
  Rig rig;
  const auto sa = Keys(Cipher::aes_128_gcm, Integrity::none, 0xd4).sa();
  rig.port.set_sas({sa}, {{rig.queue, {sa}}});
  std::thread([&rig] {
    CHECK(unshare(CLONE_NEWNET) == 0);
    rig.port.start();
  }).join();
  rig.port.set_wire_mtu(1400);
  CHECK(rig.round_trip(ipv4(Octets(100))));
  CHECK(rig.port.transmit().front().name != "none");
  rig.port.stop();
}

TEST_CASE(a_tap_that_was_removed_has_no_program_of_ours) {
  if (!has_bpf_ring()) return;
  Rig rig(ReceiveMethod::bpf);
  const int out = Device::named("out").index;
  CHECK_EQUAL(bpf::attached(bpf::Hook::egress, out).size(), 1U);
  rig.port.remove_outbound(rig.queue);
  CHECK(bpf::attached(bpf::Hook::egress, out).empty());
}
