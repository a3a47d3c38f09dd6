// The threads of a port, with real TAPs and a real wire in a network namespace of the test's own, which is gone when the test ends:
//
//   here ── TAP "out" ── port ── wan ══ core ── here ── TAP "in" ── port ── TAP "in" ── here
//
// The test plays the kernel's part: it hands frames to the TAPs and looks at what comes out. Run under ThreadSanitizer it shows that
// Python's calls and the two threads share nothing unguarded.
#include "port.hpp"

#include <sched.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <map>
#include <memory>
#include <set>

#include "bpf_ring.hpp"
#include "error.hpp"
#include "inject.hpp"
#include "memory.hpp"
#include "own_network.hpp"
#include "shared_turn.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

constexpr MacAddress token = {0x02, 0x47, 0x44, 0x4f, 0x49, 0x77};
constexpr Tag tag = {0x12, 0x34}, other_tag = {0x56, 0x78};

int a_processor() {
  cpu_set_t ours;
  sched_getaffinity(0, sizeof ours, &ours);
  int processor = 0;
  while (!CPU_ISSET(static_cast<std::size_t>(processor), &ours)) ++processor;
  return processor;
}

std::uint64_t sum(const NamedCounters& counters, const std::string& prefix) {
  std::uint64_t total = 0;
  for (const auto& [name, value] : counters) total += name.starts_with(prefix) ? value : 0;
  return total;
}

// Leads to the TAP what the kernel goes on with, as the table of an interface does in life, or drops it where that is a copy: the ring takes no fragments.
struct EspTable {
  explicit EspTable(const Port& port) {
    run("nft 'add table netdev t; add chain netdev t c { type filter hook ingress device \"wan\" priority 0; }; " +
        std::string(port.copy_limit() != 0 ? "add rule netdev t c ip protocol esp ip frag-off & 0x3fff == 0 drop; " : "") +
        "add rule netdev t c ip protocol esp fwd to \"in\"'");
  }
  ~EspTable() { run("nft delete table netdev t"); }
  EspTable(const EspTable&) = delete;
  EspTable& operator=(const EspTable&) = delete;
};

struct Rig {
  explicit Rig(ReceiveMethod receive = ReceiveMethod::tap, std::vector<int> processors = {})
      : port({.wan = "wan", .inbound_taps = {in.number()}, .token = token, .wire_mtu = 1500, .receive = receive, .processors = std::move(processors)}) {}

  Descriptor out = open_tap("out"), in = open_tap("in");
  Ear to_protect{"out"}, core{"core"}, kernel{"in"};
  Port port;
  std::size_t queue = port.add_outbound({out.number()});

  // Sends one packet round: into the port, over the core, and back out decrypted. ESP comes in by the TAP, or off the wire by the ring.
  bool round_trip(const Octets& packet, const Ear* way_in = nullptr, const Tag& given = {}) {
    to_protect.send(frame_around(packet));
    const Octets esp = core.receive();
    if (esp.size() < 34 || esp[23] != protocol_esp) return false;
    (way_in != nullptr ? *way_in : kernel).send(esp);
    Octets expected = frame_around(packet);
    const MacAddress source = tagged(token, given);
    std::copy(source.begin(), source.end(), expected.begin() + 6);
    return kernel.receive() == expected;
  }
};

}  // namespace

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

// The rules judge by it what came out of which SA (RFC 4301 5.2). An SA without a tag has one that they do not know.
TEST_CASE(what_is_decrypted_has_the_tag_of_its_sa) {
  if (!has_own_network()) return;
  Rig rig;
  const auto first = Keys(Cipher::aes_128_gcm, Integrity::none, 0x51).sa();
  SaParameters parameters = Keys(Cipher::aes_128_gcm, Integrity::none, 0x52).parameters();
  ++parameters.spi;
  const auto second = std::make_shared<Sa>(parameters);
  rig.port.start();
  for (const auto& sa : {first, second}) {
    rig.port.set_sas({first, second}, {{rig.queue, {sa}}}, {{first->spi(), tag}, {second->spi(), other_tag}});
    CHECK(rig.round_trip(ipv4(Octets(20)), nullptr, sa == first ? tag : other_tag));
  }
  rig.port.set_sas({first, second}, {{rig.queue, {first}}}, {{second->spi(), other_tag}});
  CHECK(rig.round_trip(ipv4(Octets(20))));
  rig.port.stop();
}

// Options for the destination alone are protected in transport mode, so nothing is gained by what they have (RFC 4303 3.1.1).
TEST_CASE(options_that_are_protected_count_for_what_fits) {
  if (!has_own_network()) return;
  Rig rig;
  const Ear core("core", ETH_P_IPV6), kernel("in", ETH_P_IPV6);
  const Keys keys(Cipher::aes_128_cbc, Integrity::hmac_sha2_256_128, 0x3a);
  SaParameters parameters = keys.parameters();
  parameters.mode = Mode::transport;
  const auto sa = std::make_shared<Sa>(parameters);
  rig.port.set_sas({sa}, {{rig.queue, {sa}}});
  rig.port.start();
  const std::uint32_t fits = sa->inner_mtu(1500, Family::ipv6);
  std::uint64_t count = 0;
  for (std::uint32_t length = fits - 2; length <= fits + 16; ++length) {
    Octets content(length - ipv6_header_size);
    content[0] = protocol_none;
    content[2] = 1;  // PadN
    content[3] = 4;
    Octets frame = frame_around(ipv6(content, {.next_header = protocol_destination_options}));
    store16(&frame[12], ETH_P_IPV6);
    rig.to_protect.send(frame);
    ++count;
    for (int wait = 0; wait < 3000 && sum(rig.port.counters(), "outbound_") < count; ++wait) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    CHECK_EQUAL(sum(rig.port.counters(), "outbound_delivered"), std::min<std::uint64_t>(count, 3));
  }
  CHECK_EQUAL(sum(rig.port.counters(), "outbound_too_big"), count - 3);
  std::uint32_t sent = 0;
  for (Octets frame = core.receive(); !frame.empty(); frame = core.receive(100)) {
    if (frame[20] != protocol_esp) continue;  // what the kernel has to say to its neighbours
    ++sent;
    CHECK(frame.size() <= 14 + 1500);
  }
  CHECK_EQUAL(sent, 3U);
  const Octets answer = kernel.receive();
  CHECK(answer.size() > 62 && answer[54] == 2 && load32(&answer[58]) == fits);  // packet too big (RFC 4443 3.2)
  rig.port.stop();
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

bool has_bpf_ring() {
  if (!has_own_network()) return false;
  try {
    const auto probe = BpfRing::make(Device::named("wan"), token, 1500, std::vector{-1});
    return true;
  } catch (const EngineError& error) {
    return cannot_have(std::string("a ring that a BPF program fills: ") + error.what());
  }
}

void show_esp_by_a_ring(ReceiveMethod method) {
  Rig rig(method);
  CHECK(rig.port.ring_limit() >= 1500);
  CHECK_EQUAL(rig.port.copy_limit(), method == ReceiveMethod::ring ? rig.port.ring_limit() : 0U);
  const EspTable table(rig.port);
  std::vector<std::shared_ptr<Sa>> sas;
  for (std::uint8_t number = 0; number < 4; ++number) {
    sas.push_back(Keys(Cipher::aes_128_gcm, Integrity::none, static_cast<std::uint8_t>(0x50 + number)).sa(2000U + number));
  }
  rig.port.set_sas(sas, {{rig.queue, {sas[0]}}});
  rig.port.start();
  std::atomic<bool> is_done{false};
  std::thread control([&] {
    for (std::size_t turn = 0; !is_done; ++turn) {
      rig.port.set_sas(sas, {{rig.queue, {sas[turn % sas.size()]}}});
      static_cast<void>(sum(rig.port.counters(), "") + sum(rig.port.traffic(), "") + sum(rig.port.overruns(), ""));
      static_cast<void>(rig.port.transmit().front().name + rig.port.receive().name);
      std::this_thread::sleep_for(std::chrono::microseconds(500));
    }
  });
  Random random(16);
  bool is_whole = true;
  for (int packet = 0; packet < 500 && is_whole; ++packet) is_whole = rig.round_trip(ipv4(random.octets(100)), &rig.core);
  CHECK(is_whole);
  is_done = true;
  control.join();
  rig.port.stop();
  CHECK_EQUAL(sum(rig.port.counters(), "inbound_delivered"), 500U);
  CHECK_EQUAL(sum(rig.port.traffic(), "inbound_frames"), 500U);
  CHECK_EQUAL(sum(rig.port.overruns(), ""), 0U);
}

TEST_CASE(esp_comes_in_by_the_packet_ring_while_sas_change) {
  if (has_own_network()) show_esp_by_a_ring(ReceiveMethod::ring);
}

TEST_CASE(esp_comes_in_by_the_bpf_ring_while_sas_change) {
  if (has_bpf_ring()) show_esp_by_a_ring(ReceiveMethod::bpf);
}

namespace {

// ESP of one sender, as it comes off the wire: whole packets, and one that a router has cut in two.
struct Disorder {
  static constexpr std::uint32_t window = 64;

  explicit Disorder(ReceiveMethod method, std::uint8_t fill, std::optional<TimeWindow> time = {})
      : rig(method), table(rig.port), keys(Cipher::aes_128_gcm, Integrity::none, fill) {
    SaParameters parameters = keys.parameters();
    parameters.replay_window = window;
    parameters.time = time;
    sending = std::make_shared<Sa>(parameters);
    parameters.is_apart = true;  // as on another machine
    rig.port.set_sas({std::make_shared<Sa>(parameters)}, {});
  }

  void send_whole(std::uint32_t count) {
    for (; count > 0; --count) rig.core.send(frame_around(next(40)));
  }

  void send_in_two() {
    const Octets whole = next(1000);
    constexpr std::uint32_t first = 800;
    const Octets payload(whole.begin() + ipv4_header_size, whole.end());
    const Header header{.protocol = protocol_esp};
    Header begin = header, end = header;
    begin.fragment = Ipv4::more_fragments;
    end.fragment = first / 8;
    rig.core.send(frame_around(ipv4(Octets(payload.begin(), payload.begin() + first), begin)));
    rig.core.send(frame_around(ipv4(Octets(payload.begin() + first, payload.end()), end)));
  }

  [[nodiscard]] std::uint64_t count(const std::string& name) const { return sum(rig.port.counters(), name); }
  void run_until(std::uint64_t packets) {
    rig.port.start();
    for (int wait = 0; wait < 5000 && count("inbound_") < packets; ++wait) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    rig.port.stop();
  }

  Rig rig;
  EspTable table;
  Keys keys;
  std::shared_ptr<Sa> sending;

 private:
  Octets next(std::uint32_t size) {
    Buffer buffer(ipv4(Octets(size)));
    buffer.packet.sa = sending.get();
    esp.encapsulate({&buffer.packet, 1});
    return buffer.octets();
  }

  Esp esp;
};

std::vector<ReceiveMethod> rings_here() {
  std::vector<ReceiveMethod> methods;
  if (has_own_network()) methods.push_back(ReceiveMethod::ring);
  if (has_bpf_ring()) methods.push_back(ReceiveMethod::bpf);
  return methods;
}

}  // namespace

// They come by the TAP. What is older lies in the ring, and is looked at first.
TEST_CASE(fragments_do_not_overtake_whole_packets) {
  for (const ReceiveMethod method : rings_here()) {
    Disorder disorder(method, static_cast<std::uint8_t>(0x60 + static_cast<int>(method)));
    disorder.send_whole(700);
    disorder.send_in_two();
    disorder.run_until(701);
    CHECK_EQUAL(disorder.count("inbound_delivered"), 701U);
    CHECK_EQUAL(disorder.count("inbound_replayed"), 0U);
  }
}

// Nor are they too old when what is newer has been looked at before; and what came once does not come again.
TEST_CASE(fragments_that_whole_packets_overtake_are_not_too_old) {
  for (const ReceiveMethod method : rings_here()) {
    for (const bool is_timed : {false, true}) {
      Disorder disorder(method, static_cast<std::uint8_t>(0x68 + 2 * static_cast<int>(method) + is_timed),
                        is_timed ? std::optional(TimeWindow{.seconds = 100}) : std::nullopt);
      disorder.send_whole(300);
      disorder.send_in_two();
      disorder.send_whole(2000);
      disorder.run_until(2301);
      CHECK_EQUAL(disorder.count("inbound_delivered"), 2301U);
      CHECK_EQUAL(disorder.count("inbound_replayed"), 0U);
    }
  }
}

// Packets that the kernel has sent by a device.
std::uint64_t sent_by(const std::string& device) {
  std::ifstream devices("/proc/thread-self/net/dev");
  for (std::string word; devices >> word;) {
    if (word != device + ":") continue;
    std::uint64_t value = 0;
    for (int column = 0; column < 10; ++column) devices >> value;
    return value;
  }
  return 0;
}

// UDP may go by the ring, the other protocol never does. What is sent first leaves first, while the ring rises and rests again and again.
TEST_CASE(packets_by_ring_and_by_tap_keep_their_order) {
  if (!has_bpf_ring()) return;
  Rig rig(ReceiveMethod::bpf, {a_processor()});  // what a thread sends from several, Linux may have overtake each other
  const auto sa = Keys(Cipher::null, Integrity::hmac_sha1_96, 0x39).sa();
  rig.port.set_sas({}, {{rig.queue, {sa}}});
  rig.port.start();
  constexpr std::uint32_t count = 40000, senders = 2;
  std::vector<std::thread> sending;
  for (std::uint32_t sender = 0; sender < senders; ++sender) {
    sending.emplace_back([sender] {
      const Ear to_protect("out");
      Random random(31 + sender);
      bool by_tap = false;
      for (std::uint32_t number = 0; number < count; ++number) {
        if (random.below(by_tap ? 3 : 1000) == 0) by_tap = !by_tap;
        Octets payload(8 + 40);
        store16(&payload[4], static_cast<std::uint16_t>(payload.size()));
        store32(&payload[8], sender);
        store32(&payload[12], number);
        to_protect.send(frame_around(ipv4(payload, {.protocol = by_tap ? std::uint8_t{253} : protocol_udp})));
        if (random.below(2000) == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    });
  }
  std::uint32_t arrived = 0, late = 0;
  std::array<std::uint32_t, senders> next{};
  for (Octets esp = rig.core.receive(); !esp.empty(); esp = rig.core.receive(arrived == senders * count ? 1 : 500)) {
    const std::uint8_t* data = &esp[14 + 20 + 8 + 20 + 8];
    const std::uint32_t sender = load32(data) % senders, number = load32(data + 4);
    ++arrived;
    late += number < next[sender] ? 1 : 0;
    next[sender] = number + 1;
  }
  for (std::thread& sender : sending) sender.join();
  rig.port.stop();
  CHECK_EQUAL(late, 0U);
  CHECK(arrived > count / 2);
  CHECK_EQUAL(sum(rig.port.counters(), "outbound_delivered"), arrived);
  const std::uint64_t by_tap = sent_by("out");
  CHECK(by_tap > 0 && by_tap < arrived);
}

// Whoever waits for his turn gets it next, however busy the thread is that has it. How long that takes is the machine's affair, so turns are counted;
// a few of those who wait may have been kept by the scheduler before they began to.
TEST_CASE(a_busy_thread_gives_way_to_who_waits) {
  SharedTurn turn;
  std::atomic<bool> is_done{false};
  std::atomic<std::uint64_t> rounds{0};
  std::thread busy([&] {
    while (!is_done) {
      turn.give_way();
      const std::lock_guard lock(turn);
      for (int work = 0; work < 20'000; ++work) asm volatile("");  // it has the turn nearly always
      ++rounds;
    }
  });
  std::array<std::uint64_t, 101> missed;
  for (std::uint64_t& count : missed) {
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    const std::uint64_t before = rounds;
    const std::lock_guard lock(turn);
    count = rounds - before;
  }
  is_done = true;
  busy.join();
  std::ranges::sort(missed);
  CHECK(missed[missed.size() * 4 / 5] <= 5);
}

TEST_CASE(queues_come_and_go_under_a_flood) {
  if (!has_own_network()) return;
  Rig rig(has_bpf_ring() ? ReceiveMethod::bpf : ReceiveMethod::tap);
  const Descriptor other = open_tap("other");
  const auto sa = Keys(Cipher::aes_128_cbc, Integrity::hmac_sha2_512_256, 0x3b).sa();
  rig.port.set_sas({}, {{rig.queue, {sa}}});
  rig.port.start();
  std::atomic<bool> is_done{false};
  std::thread sender([&] {
    const Octets frame = frame_around(ipv4(Octets(1400), {.protocol = protocol_udp}));
    while (!is_done) rig.to_protect.send(frame);
  });
  for (int turn = 0; turn < 100; ++turn) {
    const std::size_t queue = rig.port.add_outbound({other.number()});
    rig.port.remove_outbound(queue);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  is_done = true;
  sender.join();
  rig.port.stop();
  CHECK(sum(rig.port.counters(), "outbound_delivered") > 0);
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
  for (int wait = 0; wait < 500 && !watched.expired(); ++wait) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  CHECK(watched.expired());  // idle threads hold nothing
  rig.to_protect.send(frame_around(ipv4(Octets(10))));
  for (int wait = 0; wait < 500 && sum(rig.port.counters(), "outbound_no_sa") == 0; ++wait) std::this_thread::sleep_for(std::chrono::milliseconds(1));
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
  for (int wait = 0; wait < 3000 && sum(rig.port.counters(), "inbound_") < count; ++wait) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  CHECK_EQUAL(sum(rig.port.counters(), "outbound_delivered"), count);
  CHECK_EQUAL(sum(rig.port.counters(), "inbound_delivered"), count);
}

// The frames of AF_XDP lie in memory that goes with its socket, and so do packets of ESP in UDP, which leave by another one.
TEST_CASE(a_burst_of_both_kinds_outlives_a_way_out_that_breaks) {
  if (!has_own_network()) return;
  const Descriptor plain_out = open_tap("out"), udp_out = open_tap("out_udp"), in = open_tap("in");
  const Ear plain{"out"}, udp{"out_udp"};
  Port port{{.wan = "wan", .inbound_taps = {in.number()}, .token = token, .wire_mtu = 1500, .transmit = TransmitMethod::xdp}};
  const std::size_t plain_queue = port.add_outbound({plain_out.number()}), udp_queue = port.add_outbound({udp_out.number()});
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0x36);
  SaParameters in_udp = keys.parameters(0x1001);
  in_udp.udp = UdpPorts{4500, 4500};
  const auto plain_sa = keys.sa(), udp_sa = std::make_shared<Sa>(in_udp);
  port.set_sas({}, {{plain_queue, {plain_sa}}, {udp_queue, {udp_sa}}});
  constexpr std::uint32_t count = 20;
  for (std::uint32_t number = 0; number < count; ++number) {  // queued while nobody reads, so that one burst has all
    plain.send(frame_around(ipv4(Octets(1000))));
    udp.send(frame_around(ipv4(Octets(1000))));
  }
  run("ip link set wan down");
  port.start();
  for (int wait = 0; wait < 3000 && sum(port.counters(), "outbound_") < 2 * count; ++wait) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  port.stop();
  run("ip link set wan up");
  CHECK_EQUAL(sum(port.counters(), "outbound_send_failed"), 2 * count);
}

// A queue that nobody empties keeps the buffers of AF_XDP. What finds none takes no sequence number, and ESP in UDP does not leave from the place
// of another packet.
TEST_CASE(what_finds_no_buffer_is_not_encrypted) {
  if (!has_own_network()) return;
  run("ip link add name slow type veth peer name end && ip link set slow up && ip link set end up && "
      "tc qdisc add dev slow root tbf rate 8kbit burst 2000 limit 10000000 && tc qdisc add dev core clsact && "
      "tc filter add dev core ingress protocol all prio 1 u32 match u32 0 0 action mirred egress redirect dev slow");
  {
    const Descriptor plain_out = open_tap("out"), udp_out = open_tap("out_udp"), in = open_tap("in");
    const Ear plain{"out"}, udp{"out_udp"};
    Port port{{.wan = "wan", .inbound_taps = {in.number()}, .token = token, .wire_mtu = 1500, .transmit = TransmitMethod::xdp}};
    const std::size_t plain_queue = port.add_outbound({plain_out.number()}), udp_queue = port.add_outbound({udp_out.number()});
    const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0x37);
    const auto plain_sa = keys.sa();
    const Keys others(Cipher::aes_128_gcm, Integrity::none, 0x38);
    SaParameters in_udp = others.parameters(0x1001);
    in_udp.udp = UdpPorts{4500, 4500};
    const auto udp_sa = std::make_shared<Sa>(in_udp);
    port.set_sas({}, {{plain_queue, {plain_sa}}, {udp_queue, {udp_sa}}});
    const auto failed = [&port] { return sum(port.counters(), "outbound_send_failed"); };
    const auto wait_for = [&port](std::uint64_t packets) {
      for (int wait = 0; wait < 5000 && sum(port.counters(), "outbound_") < packets; ++wait) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      CHECK_EQUAL(sum(port.counters(), "outbound_"), packets);
    };
    port.start();
    constexpr std::uint32_t count = 1200, buffers = 1024;
    for (std::uint32_t number = 0; number < count; ++number) plain.send(frame_around(ipv4(Octets(1000))));
    wait_for(count);
    CHECK(failed() > count - buffers - 10);  // some get through: a few octets at once, and some in each second
    CHECK_EQUAL(plain_sa->last_sequence(), count - failed());
    const std::uint64_t before = failed();
    for (std::uint32_t number = 0; number < 50; ++number) udp.send(frame_around(ipv4(Octets(1000))));
    for (std::uint32_t number = 0; number < 50; ++number) plain.send(frame_around(ipv4(Octets(1470))));  // which leaves as two
    wait_for(count + 150);
    CHECK(failed() > before + 140);
    CHECK_EQUAL(plain_sa->last_sequence() + udp_sa->last_sequence(), count + 150 - failed());
    run("tc qdisc del dev slow root");
    plain.send(frame_around(ipv4(Octets(1000))));
    udp.send(frame_around(ipv4(Octets(1000))));
    const std::uint64_t last = failed();
    wait_for(count + 152);
    CHECK_EQUAL(failed(), last);
    port.stop();
  }
  run("tc qdisc del dev core clsact && ip link del slow");
}

TEST_CASE(fragments_fit_the_buffers_that_are_left_without_memory) {
  if (!has_own_network()) return;
  Rig rig;
  run("ip link set out mtu 20000; ip link set wan mtu 16000; ip link set core mtu 16000");
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0x3b);
  SaParameters parameters = keys.parameters();
  parameters.mode = Mode::transport;
  const auto sa = std::make_shared<Sa>(parameters);
  rig.port.set_sas({}, {{rig.queue, {sa}}});
  rig.port.start();
  rig.to_protect.send(frame_around(ipv4(Octets(100))));
  CHECK(!rig.core.receive().empty());
  largest_allocation = 1 << 20;
  rig.port.set_wire_mtu(16000);  // for which 2 MiB are wanted
  rig.to_protect.send(frame_around(ipv4(Octets(17000))));
  std::size_t count = 0, longest = 0;
  for (Octets frame = rig.core.receive(); !frame.empty(); frame = rig.core.receive(200), ++count) longest = std::max(longest, frame.size());
  largest_allocation = unlimited;
  rig.port.stop();
  run("ip link set wan mtu 1500; ip link set core mtu 1500");
  CHECK(count > 17000 / (1500 + esp_tailroom) && longest <= 14 + 1500 + esp_tailroom);
  CHECK_EQUAL(sum(rig.port.counters(), "outbound_delivered"), 2U);
}

TEST_CASE(datagrams_that_wait_go_to_the_kernel_in_one_frame) {
  if (!has_own_network()) return;
  Rig rig;
  const auto sa = Keys(Cipher::aes_128_gcm, Integrity::none, 0x35).sa();
  rig.port.set_sas({sa}, {{rig.queue, {sa}}});
  rig.port.start();
  constexpr std::uint32_t count = 20, size = 1000;
  Octets expected(8);
  std::vector<Octets> sealed;
  for (std::uint32_t number = 0; number < count; ++number) {
    Octets datagram(8 + size, static_cast<std::uint8_t>(number));
    store32(&datagram[0], 5000U << 16 | 6000U);
    store16(&datagram[4], 8 + size);
    store16(&datagram[6], 0);
    Octets packet = ipv4(datagram, {.protocol = protocol_udp, .fragment = Ipv4::dont_fragment});
    store16(&packet[26], finish_sum(add_sum(&packet[20], 8 + size, pseudo_header_sum(packet.data(), protocol_udp, 8 + size))));
    expected.insert(expected.end(), packet.begin() + 28, packet.end());
    rig.to_protect.send(frame_around(packet));
    sealed.push_back(rig.core.receive());
  }
  rig.port.stop();
  for (const Octets& esp : sealed) rig.kernel.send(esp);  // they wait in the TAP's queue
  rig.port.start();
  const Octets frame = rig.kernel.receive();
  rig.port.stop();
  CHECK_EQUAL(frame.size(), 14U + 20U + 8U + count * size);
  CHECK(frame.size() > 42 && std::equal(frame.begin() + 42, frame.end(), expected.begin() + 8, expected.end()));
  CHECK_EQUAL(sum(rig.port.counters(), "inbound_delivered"), count);
  CHECK_EQUAL(sum(rig.port.traffic(), "inbound_coalesced"), count - 1);
}

// Each SA has selectors of its own, and the frame of a super-packet has one tag.
TEST_CASE(datagrams_of_two_sas_do_not_go_in_one_frame) {
  if (!has_own_network()) return;
  Rig rig;
  const auto first = Keys(Cipher::aes_128_gcm, Integrity::none, 0x53).sa();
  SaParameters parameters = Keys(Cipher::aes_128_gcm, Integrity::none, 0x54).parameters();
  ++parameters.spi;
  const auto second = std::make_shared<Sa>(parameters);
  rig.port.start();
  Octets datagram(108);
  store32(&datagram[0], 5000U << 16 | 6000U);
  store16(&datagram[4], 108);
  Octets packet = ipv4(datagram, {.protocol = protocol_udp, .fragment = Ipv4::dont_fragment});
  store16(&packet[26], finish_sum(add_sum(&packet[20], 108, pseudo_header_sum(packet.data(), protocol_udp, 108))));
  std::vector<Octets> sealed;
  for (const auto& sa : {first, first, second, second, first}) {
    rig.port.set_sas({first, second}, {{rig.queue, {sa}}}, {{first->spi(), tag}, {second->spi(), other_tag}});
    rig.to_protect.send(frame_around(packet));
    sealed.push_back(rig.core.receive());
  }
  rig.port.stop();
  for (const Octets& esp : sealed) rig.kernel.send(esp);
  rig.port.start();
  const std::array<std::pair<Tag, std::size_t>, 3> expected = {{{tag, 2}, {other_tag, 2}, {tag, 1}}};
  for (const auto& [given, count] : expected) {
    const Octets frame = rig.kernel.receive();
    CHECK_EQUAL(frame.size(), 14U + 28U + count * 100);
    CHECK(frame.size() > 12 && frame[10] == given[0] && frame[11] == given[1]);
  }
  rig.port.stop();
}

namespace {

std::vector<int> numbers_of(const std::vector<Descriptor>& descriptors) {
  std::vector<int> numbers;
  for (const Descriptor& descriptor : descriptors) numbers.push_back(descriptor.number());
  return numbers;
}

// A port with several workers, whose flows are told apart by their addresses.
struct Crew {
  static constexpr std::uint32_t flows = 40;

  explicit Crew(std::size_t workers, ReceiveMethod receive = ReceiveMethod::tap)
      : out(open_tap("out", workers)), in(open_tap("in", workers)),
        port({.wan = "wan", .inbound_taps = numbers_of(in), .token = token, .wire_mtu = 1500, .receive = receive}),
        queue(port.add_outbound(numbers_of(out))) {}

  void protect(const Senders& senders) { port.set_sas({senders.front()}, {{queue, senders}}); }

  // One packet of each flow, a given number of times; what leaves, in its order.
  std::vector<Octets> send(std::uint32_t rounds) {
    for (std::uint32_t round = 0; round < rounds; ++round) {
      for (std::uint32_t flow = 0; flow < flows; ++flow) {
        to_protect.send(frame_around(ipv4(Octets(60, static_cast<std::uint8_t>(round)), {.source = 0x0a010000 + flow, .destination = 0x0a020000 + flow})));
      }
    }
    std::vector<Octets> sent;
    while (sent.size() < std::size_t{rounds} * flows) {
      Octets esp = core.receive();
      if (esp.empty()) break;
      sent.push_back(std::move(esp));
    }
    return sent;
  }

  std::vector<Descriptor> out, in;
  Ear to_protect{"out"}, core{"core"}, kernel{"in"};
  Port port;
  std::size_t queue;
};

std::uint32_t sequence_of(const Octets& frame) { return load32(&frame[14 + 20 + 4]); }
std::uint32_t flow_of(const Octets& frame) { return load32(&frame[14 + 12]); }

}  // namespace

TEST_CASE(workers_number_apart_and_keep_each_flow_in_order) {
  if (!has_own_network()) return;
  Crew crew(3);
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0x41);
  Senders senders;
  for (const std::uint32_t id : {1U, 2U, 3U}) {
    SaParameters parameters = keys.parameters();
    parameters.sender_id = id;
    parameters.replay_window = 64;
    senders.push_back(std::make_shared<Sa>(parameters));
  }
  crew.protect(senders);
  crew.port.start();
  const std::vector<Octets> sent = crew.send(50);
  CHECK_EQUAL(sent.size(), 50U * Crew::flows);
  std::map<std::uint32_t, std::uint32_t> last_of_sender, sender_of_flow;
  for (const Octets& frame : sent) {
    const std::uint32_t sender = senders.front()->sender_of(&frame[14 + 20 + 8]);
    CHECK_EQUAL(sequence_of(frame), ++last_of_sender[sender]);
    CHECK_EQUAL(sender_of_flow.try_emplace(flow_of(frame), sender).first->second, sender);
  }
  CHECK_EQUAL(last_of_sender.size(), 3U);  // 40 flows: that a worker gets none of them would be a wonder
  crew.port.stop();
  CHECK_EQUAL(sum(crew.port.counters(), "outbound_delivered"), sent.size());
  std::uint64_t encrypted = 0;
  for (const auto& sa : senders) encrypted += sa->counters().encrypted_packets;
  CHECK_EQUAL(encrypted, sent.size());
}

TEST_CASE(workers_that_share_an_sa_with_a_window_let_its_numbers_leave_in_order) {
  if (!has_own_network()) return;
  Crew crew(3);
  const Keys keys(Cipher::aes_128_cbc, Integrity::hmac_sha1_96, 0x42);
  SaParameters parameters = keys.parameters();
  parameters.replay_window = 64;
  crew.protect({std::make_shared<Sa>(parameters)});
  crew.port.start();
  const std::vector<Octets> sent = crew.send(100);
  CHECK_EQUAL(sent.size(), 100U * Crew::flows);
  std::uint32_t last = 0;
  for (const Octets& frame : sent) {
    CHECK_EQUAL(sequence_of(frame), last + 1);
    last = sequence_of(frame);
  }
}

// An SA of a group belongs to all its interfaces, and receivers do not know by which a packet left.
TEST_CASE(ports_that_share_an_sa_with_a_window_let_its_numbers_leave_in_order) {
  if (!has_own_network()) return;
  run("ip link add name wan2 address 02:00:00:00:00:03 type veth peer name core2 && ip link set wan2 up && ip link set core2 up");
  {
    constexpr std::uint32_t count = 6000, window = 64;
    const Descriptor in = open_tap("in"), in2 = open_tap("in2"), out = open_tap("out"), out2 = open_tap("out2");
    const Ear all{""};
    Port one({.wan = "wan", .inbound_taps = {in.number()}, .token = token, .wire_mtu = 1500, .receive = ReceiveMethod::tap});
    Port two({.wan = "wan2", .inbound_taps = {in2.number()}, .token = token, .wire_mtu = 1500, .receive = ReceiveMethod::tap});
    const std::size_t queue = one.add_outbound({out.number()}), queue2 = two.add_outbound({out2.number()});
    const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0x4c);
    SaParameters parameters = keys.parameters();
    parameters.replay_window = window;
    // The same Sender-ID of one key twice, as two interfaces have it that were made at different times.
    one.set_sas({}, {{queue, {std::make_shared<Sa>(parameters)}}});
    two.set_sas({}, {{queue2, {std::make_shared<Sa>(parameters)}}});
    for (const char* device : {"out", "out2"}) {
      const Ear to_protect(device);
      for (std::uint32_t number = 0; number < count; ++number) to_protect.send(frame_around(ipv4(Octets(200))));
    }
    one.start();
    two.start();
    ReplayWindow seen(window);
    std::uint32_t arrived = 0, late = 0;
    while (arrived < 2 * count) {
      const Octets frame = all.receive();
      if (frame.empty()) break;
      if (frame[23] != protocol_esp) continue;
      ++arrived;
      if (!seen.accept(sequence_of(frame))) ++late;
    }
    CHECK_EQUAL(arrived, 2 * count);
    CHECK_EQUAL(late, 0U);
  }
  run("ip link del wan2");
}

TEST_CASE(a_queue_that_one_worker_has_given_up_is_taken_from_the_others) {
  if (!has_own_network()) return;
  Crew crew(3);
  for (std::uint32_t flow = 0; flow < Crew::flows; ++flow) {  // so that each worker looks at its queue
    crew.to_protect.send(frame_around(ipv4(Octets(60), {.source = 0x0a010000 + flow, .destination = 0x0a020000 + flow})));
  }
  const Descriptor queue(dup(crew.out[1].number())), no_queue(open("/", O_RDONLY | O_DIRECTORY));
  CHECK(dup2(no_queue.number(), crew.out[1].number()) >= 0);  // there is something to read, and reading fails
  crew.port.start();
  for (int wait = 0; wait < 3000 && crew.port.fault().empty(); ++wait) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  CHECK(!crew.port.fault().empty());
  const auto is_taken = [&crew] {
    try {
      crew.port.remove_outbound(crew.queue);
    } catch (const EngineError&) {
      return false;
    }
    return true;
  };
  CHECK(is_taken());
  CHECK(!is_taken());
}

TEST_CASE(workers_take_esp_in_by_each_way_once_and_flow_by_flow_in_order) {
  if (!has_own_network()) return;
  for (const ReceiveMethod method : {ReceiveMethod::tap, ReceiveMethod::ring, ReceiveMethod::bpf}) {
    std::unique_ptr<Crew> made;
    try {
      made = std::make_unique<Crew>(2, method);
    } catch (const EngineError& error) {
      std::printf("not here: %s\n", error.what());
      continue;
    }
    Crew& crew = *made;
    const EspTable table(crew.port);
    CHECK_EQUAL(crew.port.receivers(), method == ReceiveMethod::bpf ? 2U : 1U);
    const Keys keys(Cipher::aes_128_gcm, Integrity::none, static_cast<std::uint8_t>(0x43 + static_cast<int>(method)));
    Senders senders;
    for (const std::uint32_t id : {1U, 2U}) {
      SaParameters parameters = keys.parameters();
      parameters.sender_id = id;
      senders.push_back(std::make_shared<Sa>(parameters));
    }
    SaParameters near = keys.parameters();
    near.sender_id = 3;
    near.replay_window = 64;  // all packets of a sender have to come to one worker
    crew.port.set_sas({std::make_shared<Sa>(near)}, {{crew.queue, senders}});
    crew.port.start();
    const std::vector<Octets> sent = crew.send(60);
    for (const Octets& frame : sent) crew.core.send(frame);
    std::map<std::uint32_t, std::vector<std::uint8_t>> came;
    for (std::size_t count = 0; count < sent.size(); ++count) {
      const Octets frame = crew.kernel.receive();
      if (frame.empty()) break;
      came[flow_of(frame)].push_back(frame.back());
    }
    CHECK_EQUAL(came.size(), Crew::flows);
    for (const auto& [flow, rounds] : came) {
      CHECK_EQUAL(rounds.size(), 60U);
      CHECK(std::ranges::is_sorted(rounds));
    }
    crew.port.stop();
    CHECK_EQUAL(sum(crew.port.counters(), "inbound_delivered"), sent.size());
    CHECK_EQUAL(sum(crew.port.traffic(), "inbound_frames"), sent.size());
  }
}

TEST_CASE(workers_take_all_of_one_sender_in_by_one_of_them) {
  if (!has_own_network()) return;
  Crew crew(2, ReceiveMethod::automatic);
  const EspTable table(crew.port);
  const Keys keys(Cipher::aes_128_cbc, Integrity::hmac_sha1_96, 0x4b);
  SaParameters parameters = keys.parameters();
  parameters.replay_window = 64;
  crew.protect({std::make_shared<Sa>(parameters)});
  crew.port.start();
  const std::vector<Octets> sent = crew.send(60);
  parameters.is_apart = true;  // or the windows know what was sent
  crew.port.set_sas({std::make_shared<Sa>(parameters)}, {});
  for (const Octets& frame : sent) crew.core.send(frame);
  for (int wait = 0; wait < 3000 && sum(crew.port.counters(), "inbound_") < sent.size(); ++wait) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  crew.port.stop();
  CHECK_EQUAL(sum(crew.port.counters(), "inbound_delivered"), sent.size());
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
