// A port and its way out: what fits the wire, and what becomes of packets when it breaks or takes nothing.
#include "port_rig.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <thread>

#include "memory.hpp"
#include "too_big_answer.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

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
    CHECK(rig.comes_to("outbound_", count));
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
  CHECK(wait_until([&port] { return sum(port.counters(), "outbound_") >= 2 * count; }));
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
      CHECK(wait_until([&] { return sum(port.counters(), "outbound_") >= packets; }));
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

// One message to a sender in a millisecond, whatever comes; and who may not be answered does not use up the turn of another one.
TEST_CASE(senders_of_what_is_too_big_are_told_now_and_then) {
  if (!has_own_network()) return;
  Rig rig;
  const auto sa = Keys(Cipher::aes_128_gcm, Integrity::none, 0xae).sa();
  rig.port.set_sas({}, {{rig.queue, {sa}}});
  const auto too_big = [](std::uint32_t destination) {
    return frame_around(ipv4(Octets(1480), {.fragment = Ipv4::dont_fragment, .destination = destination}));
  };
  rig.to_protect.send(too_big(0xef010101));
  rig.to_protect.send(too_big(0x0a020209));
  rig.port.start();
  CHECK(rig.comes_to("outbound_too_big", 2));
  rig.port.stop();
  CHECK_EQUAL(sum(rig.port.traffic(), "outbound_icmp_sent"), 1U);
  const Octets answer = rig.kernel.receive();
  CHECK(answer.size() > 54 && answer[23] == protocol_icmp && load32(&answer[30]) == 0x0a010109U);

  constexpr std::uint32_t count = 300;
  for (std::uint32_t number = 0; number < count; ++number) rig.to_protect.send(too_big(0x0a020209));  // queued while nobody reads
  std::this_thread::sleep_for(TooBigAnswer::interval);  // all may be taken at once, and the last answer may be younger than that
  const auto began = std::chrono::steady_clock::now();
  rig.port.start();
  CHECK(rig.comes_to("outbound_too_big", 2 + count));
  rig.port.stop();
  const auto elapsed = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - began).count();
  const std::uint64_t told = sum(rig.port.traffic(), "outbound_icmp_sent") - 1;
  CHECK_EQUAL(rig.count("outbound_too_big"), 2 + count);
  CHECK(told >= 1 && told <= static_cast<std::uint64_t>(elapsed) + 1);
}

TEST_CASE(a_port_comes_back_to_its_way_out) {
  if (!has_own_network()) return;
  Rig rig(ReceiveMethod::tap, {}, TransmitMethod::xdp);
  const auto sa = Keys(Cipher::aes_128_gcm, Integrity::none, 0xaf).sa();
  rig.port.set_sas({}, {{rig.queue, {sa}}});
  rig.port.start();
  run("ip link set wan down");
  CHECK(wait_until([&] {
    rig.to_protect.send(frame_around(ipv4(Octets(100))));
    return rig.port.transmit().front().name == "none" && rig.count("outbound_send_failed") != 0;
  }));
  run("ip link set wan up");
  CHECK(wait_until([&] {  // it looks when packets come
    rig.to_protect.send(frame_around(ipv4(Octets(100))));
    return rig.port.transmit().front().name == "xdp" && rig.count("outbound_delivered") != 0;
  }));
  rig.port.stop();
}

// A wire that takes little makes each burst wait for half a second. Who changes the queues, or stops the port, waits for one of them and not for
// all that is in the ring; and what is left there is counted.
// Also where a frame waits at the TAP that is newer than all of that, since the ring does not take its kind.
void show_a_slow_wire(bool has_frame_behind) {
  run("ip address replace 10.9.0.1/16 dev wan && ip route replace default via 10.9.0.2 onlink dev wan && "
      "ip neighbour replace 10.9.0.2 lladdr 02:00:00:00:00:01 dev wan && tc qdisc add dev wan root tbf rate 500kbit burst 5000 limit 100000000");
  {
    Rig rig(ReceiveMethod::bpf, {}, TransmitMethod::raw);
    run("tc qdisc replace dev out root noqueue");  // else what finds the TAP full waits where nobody counts
    const Descriptor other = open_tap("other");
    const auto sa = Keys(Cipher::aes_128_gcm, Integrity::none, 0xb7).sa();
    rig.port.set_sas({}, {{rig.queue, {sa}}});
    rig.port.start();
    const Octets frame = frame_around(ipv4(Octets(1000), {.protocol = protocol_udp}));
    std::uint64_t sent = 0;
    bool is_full = false;
    // Until the wire is full, and then as many as the ring takes. On a machine that is busy frames may come too slowly for the ring: then they wait at the TAP.
    for (std::uint32_t more = 3000; more != 0 && sent < 20'000; ++sent) {
      rig.to_protect.send(frame);
      if (sent % 64 == 0) is_full = rig.count("outbound_send_failed") != 0;
      if (is_full) --more;
    }
    const auto takes_long = [](const auto& change) {
      const auto began = std::chrono::steady_clock::now();
      change();
      return std::chrono::steady_clock::now() - began > std::chrono::seconds(10);  // a burst takes up to five, all that waits a minute
    };
    if (has_frame_behind) {
      rig.to_protect.send(frame_around(ipv4(Octets(1000), {.protocol = protocol_udp, .fragment = Ipv4::more_fragments})));
      ++sent;
    }
    CHECK(!takes_long([&] { rig.port.remove_outbound(rig.port.add_outbound({other.number()})); }));
    CHECK(!takes_long([&] { rig.port.stop(); }));
    const std::uint64_t discarded = sum(rig.port.discard(), "outbound");
    std::uint64_t at_tap = 0;
    for (Octets room(3000); read(rig.out.number(), room.data(), room.size()) > 0;) ++at_tap;
    CHECK(discarded + at_tap > 500);
    CHECK_EQUAL(rig.count("outbound_") + sum(rig.port.overruns(), "outbound") + discarded + at_tap + statistic_of("out", tx_dropped), sent);
  }
  run("tc qdisc del dev wan root");
}

TEST_CASE(a_port_on_a_slow_wire_stops_at_once) {
  if (has_bpf_ring()) show_a_slow_wire(false);
}

TEST_CASE(a_port_on_a_slow_wire_stops_at_once_with_a_frame_behind_its_ring) {
  if (has_bpf_ring()) show_a_slow_wire(true);
}

// A queue that is always full does not keep the others waiting.
TEST_CASE(queues_take_turns) {
  if (!has_own_network()) return;
  Rig rig;
  const Descriptor other = open_tap("other");
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0xd5);
  const std::size_t queue = rig.port.add_outbound({other.number()});
  rig.port.set_sas({}, {{rig.queue, {keys.sa(0x3100)}}, {queue, {keys.sa(0x3101)}}});
  constexpr std::uint32_t count = 2000;
  for (std::uint32_t number = 0; number < count; ++number) rig.to_protect.send(frame_around(ipv4(Octets(50))));  // queued while nobody reads
  Ear("other").send(frame_around(ipv4(Octets(50))));
  rig.port.start();
  std::uint32_t before = 0, arrived = 0;
  bool has_come = false;
  while (arrived <= count) {
    const Octets frame = rig.core.receive();
    if (frame.empty()) break;
    has_come = has_come || load32(&frame[14 + 20]) == 0x3101;
    before += has_come ? 0 : 1;
    ++arrived;
  }
  rig.port.stop();
  CHECK(has_come);
  CHECK_EQUAL(arrived, count + 1);
  CHECK(before <= 200);  // some turns
}

TEST_CASE(fragments_of_different_packets_are_told_apart) {
  if (!has_own_network()) return;
  Rig rig;
  const Ear core("core", ETH_P_IPV6);
  rig.port.set_wire_mtu(1280);
  rig.port.set_sas({}, {{rig.queue, {Keys(Cipher::aes_128_gcm, Integrity::none, 0xd6).sa()}}});
  rig.port.start();
  constexpr std::uint32_t count = 10;
  for (std::uint32_t number = 0; number < count; ++number) {
    Octets frame = frame_around(ipv6(Octets(1240), {.next_header = 253}));
    store16(&frame[12], ETH_P_IPV6);
    rig.to_protect.send(frame);
  }
  std::map<std::uint32_t, std::uint32_t> parts;  // by identification
  for (std::uint32_t arrived = 0; arrived < 2 * count;) {
    const Octets frame = core.receive();
    if (frame.empty()) break;
    if (frame[20] != protocol_fragment) continue;  // what the kernel has to say to its neighbours
    ++arrived;
    ++parts[load32(&frame[14 + 40 + 4])];
  }
  rig.port.stop();
  CHECK_EQUAL(parts.size(), count);
  for (const auto& [identification, number] : parts) CHECK_EQUAL(number, 2U);
}
