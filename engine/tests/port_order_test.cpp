// What came first leaves first, and nothing falls out of a replay window because it was overtaken.
#include "port_rig.hpp"

#include <sched.h>

#include <array>
#include <atomic>
#include <map>
#include <optional>
#include <thread>

#include "leaving_order.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

int a_processor() {
  cpu_set_t ours;
  sched_getaffinity(0, sizeof ours, &ours);
  int processor = 0;
  while (!CPU_ISSET(static_cast<std::size_t>(processor), &ours)) ++processor;
  return processor;
}

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

  [[nodiscard]] std::uint64_t count(const std::string& name) const { return rig.count(name); }
  void run_until(std::uint64_t packets) {
    rig.port.start();
    CHECK(rig.comes_to("inbound_", packets));
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
  const std::uint64_t by_tap = statistic_of("out", tx_packets);
  CHECK(by_tap > 0 && by_tap < arrived);
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

// More sequences than one burst may hold together: each leaves in its order all the same.
TEST_CASE(a_burst_of_many_sequences_leaves_each_in_its_order) {
  if (!has_own_network()) return;
  constexpr std::uint32_t senders = LeavingOrder::most + 2, each = 20;  // together fewer than a burst has room for
  const Descriptor in = open_tap("in");
  const Ear core("core");
  Port port({.wan = "wan", .inbound_taps = {in.number()}, .token = token, .wire_mtu = 1500, .receive = ReceiveMethod::tap});
  std::vector<Descriptor> taps;
  std::map<std::size_t, Senders> sas;
  for (std::uint32_t number = 0; number < senders; ++number) {
    const std::string name = "out" + std::to_string(number);
    taps.push_back(open_tap(name.c_str()));
    const Keys keys(Cipher::aes_128_gcm, Integrity::none, static_cast<std::uint8_t>(0x90 + number));
    SaParameters parameters = keys.parameters(0x3000 + number);
    parameters.replay_window = 64;
    sas[port.add_outbound({taps.back().number()})] = {std::make_shared<Sa>(parameters)};
    const Ear to_protect(name.c_str());
    for (std::uint32_t frame = 0; frame < each; ++frame) to_protect.send(frame_around(ipv4(Octets(100))));  // queued while nobody reads
  }
  port.set_sas({}, sas);
  port.start();
  std::map<std::uint32_t, std::uint32_t> last;
  std::uint32_t arrived = 0;
  while (arrived < senders * each) {
    const Octets frame = core.receive();
    if (frame.empty()) break;
    if (frame[23] != protocol_esp) continue;
    ++arrived;
    const auto [item, is_first] = last.try_emplace(load32(&frame[14 + 20]), sequence_of(frame));
    if (!is_first) CHECK_EQUAL(sequence_of(frame), ++item->second);
  }
  port.stop();
  CHECK_EQUAL(arrived, senders * each);
  CHECK_EQUAL(sum(port.counters(), "outbound_delivered"), senders * each);
}

// ESP in UDP leaves by one way, whatever stands between its IP header and UDP: by two, one packet of an SA would overtake another.
TEST_CASE(esp_in_udp_behind_options_keeps_its_order) {
  if (!has_own_network()) return;
  Rig rig;
  const Ear core("core", ETH_P_IPV6);
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0x98);
  SaParameters parameters = keys.parameters();
  parameters.mode = Mode::transport;
  parameters.udp = UdpPorts{4500, 4500};
  rig.port.set_sas({}, {{rig.queue, {std::make_shared<Sa>(parameters)}}});
  constexpr std::uint32_t count = 20;
  for (std::uint32_t number = 0; number < count; ++number) {  // queued while nobody reads, so that one burst has all
    const Octets options = {253, 0, 1, 4, 0, 0, 0, 0};  // PadN
    const bool has_options = number % 2 == 0;
    Octets frame = frame_around(ipv6(has_options ? options : Octets(8), {.next_header = has_options ? protocol_hop_by_hop : std::uint8_t{253}}));
    store16(&frame[12], ETH_P_IPV6);
    rig.to_protect.send(frame);
  }
  rig.port.start();
  std::uint32_t arrived = 0, last = 0;
  while (arrived < count) {
    const Octets frame = core.receive();
    if (frame.empty()) break;
    const std::size_t udp = frame[20] == protocol_hop_by_hop ? 14 + 40 + 8 : 14 + 40;
    if (frame.size() < udp + 16 || frame[udp == 54 ? 20 : 54] != protocol_udp) continue;  // what the kernel has to say to its neighbours
    const std::uint32_t sequence = load32(&frame[udp + 12]);
    if (arrived++ != 0) CHECK_EQUAL(sequence, last + 1);
    last = sequence;
  }
  rig.port.stop();
  CHECK_EQUAL(arrived, count);
}

// What waits in the ring when a port stops is older than what comes by the TAP until it starts again.
TEST_CASE(packets_keep_their_order_over_a_stop) {
  if (!has_bpf_ring()) return;
  Rig rig(ReceiveMethod::bpf, {a_processor()});
  const auto sa = Keys(Cipher::null, Integrity::hmac_sha1_96, 0x99).sa();
  rig.port.set_sas({}, {{rig.queue, {sa}}});
  rig.port.start();
  constexpr std::uint32_t count = 40000;
  std::thread sender([] {
    const Ear to_protect("out");
    for (std::uint32_t number = 0; number < count; ++number) {
      Octets payload(8 + 40);
      store16(&payload[4], static_cast<std::uint16_t>(payload.size()));
      store32(&payload[8], number);
      to_protect.send(frame_around(ipv4(payload, {.protocol = protocol_udp})));
    }
  });
  std::atomic<bool> is_done{false};
  std::thread control([&] {
    while (!is_done) {
      rig.port.stop();
      rig.port.start();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));  // so that most of them find room
    }
  });
  std::uint32_t arrived = 0, late = 0, next = 0;
  for (Octets esp = rig.core.receive(); !esp.empty(); esp = rig.core.receive(1000)) {
    const std::uint32_t number = load32(&esp[14 + 20 + 8 + 20 + 8]);
    ++arrived;
    late += number < next ? 1 : 0;
    next = number + 1;
  }
  sender.join();
  is_done = true;
  control.join();
  rig.port.stop();
  CHECK_EQUAL(late, 0U);
  CHECK_EQUAL(rig.count("outbound_delivered"), arrived);
  CHECK(arrived > count / 2);
}
