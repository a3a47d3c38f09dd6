// The ways out of a port, on a real interface in a network namespace of the test's own.
#include "wire.hpp"

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <thread>

#include "error.hpp"
#include "memory.hpp"
#include "own_network.hpp"
#include "xdp_transmitter.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

constexpr std::size_t slot_size = 1700;
constexpr std::size_t head = 66;  // where the frame begins in its slot, as far as it matters here

Wire wire_by(TransmitMethod method, std::size_t size = slot_size) { return Wire({Device::named("wan"), 0, 0, method}, size); }

Octets numbered(std::uint32_t number, std::uint32_t size) {
  Octets payload(size, static_cast<std::uint8_t>(number));
  store32(payload.data(), number);
  return frame_around(ipv4(payload, {.protocol = protocol_esp}));
}

// What is behind the link header.
Octets packet_of(const Octets& frame) {
  Octets packet;
  for (std::size_t at = 14; at < frame.size(); ++at) packet.push_back(frame[at]);
  return packet;
}

// Sends these frames, each in the slot of its place and not always at the same place in it; an empty one leaves its slot out. Tells how many the wire took.
std::size_t send(Wire& wire, const std::vector<Octets>& contents) {
  std::vector<OutgoingFrame> frames;
  for (std::size_t index = 0; index < contents.size(); ++index) {
    const Octets& frame = contents[index];
    if (frame.empty()) continue;
    std::uint8_t* at = wire.slot(index) + head + index % 5;
    std::copy(frame.begin(), frame.end(), at);
    const std::uint16_t link_size = load16(&frame[12]) == ETH_P_8021Q ? 18 : 14;
    frames.push_back({at, static_cast<std::uint32_t>(frame.size()), static_cast<std::uint16_t>(index), link_size, false});
  }
  wire.send(frames);
  return static_cast<std::size_t>(std::count_if(frames.begin(), frames.end(), [](const OutgoingFrame& frame) { return frame.is_sent; }));
}

// Frames with these numbers.
std::size_t send(Wire& wire, std::uint32_t first, std::uint32_t count, std::uint32_t size = 40) {
  std::vector<Octets> contents;
  for (std::uint32_t index = 0; index < count; ++index) contents.push_back(numbered(first + index, size));
  return send(wire, contents);
}

// Whether the wire uses this way after a while.
bool comes_to(Wire& wire, const std::string& name) {
  return wait_until([&] {
    wire.look_after();
    return wire.back_end().name == name;
  });
}

// The numbers of the ESP frames that arrive, until there is one that nobody sends: an empty frame.
std::vector<std::uint32_t> received(const Ear& core, std::size_t count) {
  std::vector<std::uint32_t> numbers;
  while (numbers.size() < count) {
    const Octets frame = core.receive();
    if (frame.empty()) break;
    if (frame[23] == protocol_esp) numbers.push_back(load32(&frame[34]));
  }
  return numbers;
}

bool are_in_order(const std::vector<std::uint32_t>& numbers, std::uint32_t first, std::size_t count) {
  if (numbers.size() != count) return false;
  for (std::size_t index = 0; index < count; ++index) {
    if (numbers[index] != first + index) return false;
  }
  return true;
}

}  // namespace

TEST_CASE(each_method_sends_whole_bursts_in_order) {
  if (!has_own_network()) return;
  for (const TransmitMethod method : {TransmitMethod::bpf, TransmitMethod::xdp, TransmitMethod::packet}) {
    const Ear core("core");
    Wire wire = wire_by(method);
    CHECK(wire.back_end().reason.empty());
    for (std::uint32_t burst = 0; burst < 20; ++burst) {  // more than there are buffers
      CHECK_EQUAL(send(wire, burst * 128, 128, 1400), 128U);
      CHECK(are_in_order(received(core, 128), burst * 128, 128));
    }
    CHECK_EQUAL(send(wire, 7000, 1), 1U);
    CHECK(core.receive() == numbered(7000, 40));
  }
}

TEST_CASE(a_raw_socket_finds_the_interface_by_its_number) {
  if (!has_own_network()) return;
  Device wan = Device::named("wan");
  wan.name = "renamed";
  const Wire wire({wan, 0, 0, TransmitMethod::raw}, slot_size);
  CHECK(wire.back_end().name == "raw");
}

TEST_CASE(a_raw_socket_sends_the_packet_of_the_frame) {
  if (!has_own_network()) return;
  run("ip address replace 10.9.0.1/16 dev wan && ip route replace default via 10.9.0.2 onlink dev wan && "
      "ip neighbour replace 10.9.0.2 lladdr 02:00:00:00:00:01 dev wan");
  const Ear core("core");
  Wire wire = wire_by(TransmitMethod::raw);
  CHECK(wire.back_end().name == "raw");
  CHECK_EQUAL(send(wire, 0, 100), 100U);
  bool is_same = true;
  for (std::uint32_t number = 0; number < 100 && is_same; ++number) {
    is_same = packet_of(core.receive()) == packet_of(numbered(number, 40));
  }
  CHECK(is_same);
}

// Slots that are left out, frames of all sizes behind each other, with and without a tag, and of more than one ethertype: nothing of one gets into another.
TEST_CASE(each_method_sends_what_a_burst_is_made_of) {
  if (!has_own_network()) return;
  for (const TransmitMethod method : {TransmitMethod::automatic, TransmitMethod::bpf, TransmitMethod::xdp, TransmitMethod::packet}) {
    const Ear core("core", ETH_P_ALL);
    Wire wire = wire_by(method);
    std::vector<Octets> burst(128);
    for (std::uint32_t index = 0; index < burst.size(); ++index) {
      if (index % 7 == 3) continue;
      burst[index] = numbered(index, index % 3 == 0 ? 1400 : 4 + index);
      if (index % 5 < 2) store16(&burst[index][12], ETH_P_IPV6);  // nobody looks at what is in it
      if (index % 11 == 0) burst[index].insert(burst[index].begin() + 12, {0x81, 0, 0, 7});
    }
    const auto wanted = static_cast<std::size_t>(std::ranges::count_if(burst, [](const Octets& frame) { return !frame.empty(); }));
    for (int turn = 0; turn < 3; ++turn) {
      CHECK_EQUAL(send(wire, burst), wanted);
      bool is_same = true;
      for (Octets frame : burst) {
        if (frame.empty()) continue;
        if (load16(&frame[12]) == ETH_P_8021Q) frame.erase(frame.begin() + 12, frame.begin() + 16);  // the kernel has it apart
        is_same = is_same && core.receive() == frame;
      }
      CHECK(is_same);
    }
  }
}

TEST_CASE(what_passes_the_egress_hooks_has_the_mark) {
  if (!has_own_network()) return;
  run("nft 'table netdev filter { chain leaving { type filter hook egress device wan priority 0; meta mark != 0x1234567 drop; }; }'");
  for (const TransmitMethod method : {TransmitMethod::bpf, TransmitMethod::packet}) {
    const Ear core("core");
    Wire other({Device::named("wan"), 0x89abcdef, 0, method}, slot_size);
    CHECK_EQUAL(send(other, 100, 10), 0U);
    Wire wire({Device::named("wan"), 0x1234567, 0, method}, slot_size);
    CHECK_EQUAL(send(wire, 0, 20), 20U);
    CHECK(are_in_order(received(core, 20), 0, 20));
  }
  run("nft delete table netdev filter");
}

TEST_CASE(queueing_disciplines_know_a_packet_by_its_type_of_service) {
  if (!has_own_network()) return;
  run("nft 'table netdev filter { chain leaving { type filter hook egress device wan priority 0; meta priority 0:6 accept; drop; }; }'");
  Wire wire = wire_by(TransmitMethod::bpf);
  std::vector<Octets> burst;
  for (std::uint32_t index = 0; index < 8; ++index) {
    burst.push_back(numbered(index, 40));
    burst.back()[15] = static_cast<std::uint8_t>(index << 2 | 1);
  }
  const Ear core("core");
  CHECK_EQUAL(send(wire, burst), 2U);  // with the bit for low delay, and not that for throughput
  CHECK(core.receive() == burst[4]);
  CHECK(core.receive() == burst[5]);
  run("nft delete table netdev filter");
}

TEST_CASE(a_refusal_by_the_queueing_discipline_is_told_of_each_frame) {
  if (!has_own_network()) return;
  run("tc qdisc add dev wan root bfifo limit 1000");
  Wire wire = wire_by(TransmitMethod::bpf);
  std::vector<Octets> burst;
  for (std::uint32_t index = 0; index < 9; ++index) burst.push_back(numbered(index, index % 3 == 1 ? 1400 : 40));
  const Ear core("core");
  CHECK_EQUAL(send(wire, burst), 6U);
  for (const std::uint32_t number : {0U, 2U, 3U, 5U, 6U, 8U}) CHECK(core.receive() == burst[number]);
  run("tc qdisc del dev wan root");
  CHECK_EQUAL(send(wire, burst), 9U);
}

TEST_CASE(a_burst_waits_once_for_an_interface_that_takes_nothing) {
  if (!has_own_network()) return;
  run("ip address replace 10.9.0.1/16 dev wan && ip route replace default via 10.9.0.2 onlink dev wan && "
      "ip neighbour replace 10.9.0.2 lladdr 02:00:00:00:00:01 dev wan");
  run("tc qdisc add dev wan root tbf rate 8kbit burst 1600 limit 100000000");
  Wire wire = wire_by(TransmitMethod::raw);
  const auto began = std::chrono::steady_clock::now();
  std::size_t bursts = 0;
  while (bursts < 100 && send(wire, 0, Transmitter::burst_size, 1400) == Transmitter::burst_size) ++bursts;  // until the socket is full
  CHECK(bursts > 0 && bursts < 100);
  CHECK(std::chrono::steady_clock::now() - began < std::chrono::seconds(4));  // each frame that waited would make it 12
  run("tc qdisc del dev wan root");
}

// What the kernel has to say of the packet calls the socket ready, which is no room in it.
TEST_CASE(a_raw_socket_waits_also_after_a_packet_that_was_too_long) {
  if (!has_own_network()) return;
  run("ip address replace 10.9.0.1/16 dev wan && ip route replace default via 10.9.0.2 onlink dev wan && "
      "ip neighbour replace 10.9.0.2 lladdr 02:00:00:00:00:01 dev wan && ip link set wan mtu 1000");
  Wire wire = wire_by(TransmitMethod::raw);
  CHECK_EQUAL(send(wire, 0, 1, 1400), 0U);
  run("tc qdisc add dev wan root tbf rate 8kbit burst 1600 limit 100000000");
  std::chrono::steady_clock::time_point began;
  std::size_t bursts = 0;
  do {
    began = std::chrono::steady_clock::now();
  } while (++bursts < 100 && send(wire, 0, Transmitter::burst_size, 900) == Transmitter::burst_size);
  CHECK(bursts < 100);
  CHECK(std::chrono::steady_clock::now() - began > std::chrono::milliseconds(90));
  run("tc qdisc del dev wan root; ip link set wan mtu 1500");
}

TEST_CASE(an_interface_that_is_gone_is_no_way_out_until_it_is_there_again) {
  if (!has_own_network()) return;
  const auto make = [](const std::string& words) { run("ip link add gone " + words + " type veth peer name there && ip link set gone up && ip link set there up"); };
  make("");
  for (const TransmitMethod method : {TransmitMethod::automatic, TransmitMethod::bpf}) {
    const Device device = Device::named("gone");
    Wire wire({device, 0, 0, method}, slot_size);
    CHECK(wire.back_end().name == "bpf");
    run("ip link delete gone");
    for (int turn = 0; turn < 30; ++turn) {
      CHECK_EQUAL(send(wire, 0, 10), 0U);
      CHECK(wire.back_end().name == "none");
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      wire.look_after();
    }
    make("index " + std::to_string(device.index));
    CHECK(comes_to(wire, "bpf"));
    const Ear there("there");
    CHECK_EQUAL(send(wire, 60, 10), 10U);
    CHECK(are_in_order(received(there, 10), 60, 10));
  }
  run("ip link delete gone");
}

TEST_CASE(a_queue_that_is_taken_makes_the_wire_wait_for_it) {
  if (!has_own_network()) return;
  const auto take = [] { return std::make_unique<XdpTransmitter>(Device::named("wan"), 0, slot_size, true); };
  std::unique_ptr<XdpTransmitter> other = take();
  bool is_refused = false;
  try {
    wire_by(TransmitMethod::xdp);
  } catch (const EngineError& error) {
    is_refused = std::string(error.what()).find("another AF_XDP socket") != std::string::npos;
  }
  CHECK(is_refused);
  other.reset();
  Wire wire = wire_by(TransmitMethod::xdp);
  run("ip link set wan down");
  CHECK_EQUAL(send(wire, 0, 1), 0U);
  run("ip link set wan up");
  other = take();
  std::this_thread::sleep_for(std::chrono::milliseconds(150));
  wire.look_after();
  CHECK(wire.back_end().name == "none");
  CHECK(wire.back_end().reason.find("another AF_XDP socket") != std::string::npos);
  other.reset();
  CHECK(comes_to(wire, "xdp"));
  const Ear core("core");
  CHECK_EQUAL(send(wire, 1, 3), 3U);
  CHECK(are_in_order(received(core, 3), 1, 3));
}

TEST_CASE(an_interface_that_goes_down_and_up_gets_no_frame_from_before) {
  if (!has_own_network()) return;
  for (const TransmitMethod method : {TransmitMethod::automatic, TransmitMethod::bpf, TransmitMethod::xdp, TransmitMethod::packet}) {
    Wire wire = wire_by(method);
    const std::string before = wire.back_end().name;
    run("ip link set wan down");
    CHECK_EQUAL(send(wire, 100, 64), 0U);
    CHECK_EQUAL(send(wire, 200, 64), 0U);
    run("ip link set wan up");
    const Ear core("core");
    CHECK(comes_to(wire, before));
    CHECK_EQUAL(send(wire, 300, 64), 64U);
    CHECK(are_in_order(received(core, 64), 300, 64));
  }
}

TEST_CASE(a_wire_that_breaks_while_there_is_no_memory_has_no_way_until_there_is_some) {
  if (!has_own_network()) return;
  Wire wire = wire_by(TransmitMethod::xdp);
  const Octets frame = numbered(1, 40);
  std::copy(frame.begin(), frame.end(), wire.slot(0) + head);
  std::array<OutgoingFrame, 1> frames = {{{wire.slot(0) + head, static_cast<std::uint32_t>(frame.size()), 0, 14, false}}};
  run("ip link set wan down");
  BackEnd now;
  {
    const Scarcity scarcity(0);
    wire.send(frames);
    now = wire.back_end();
  }
  CHECK(!frames.front().is_sent);
  CHECK(now.name == "none" && now.reason == "no memory");
  run("ip link set wan up");
  const Ear core("core");
  CHECK(comes_to(wire, "xdp"));
  CHECK_EQUAL(send(wire, 300, 64), 64U);
  CHECK(are_in_order(received(core, 64), 300, 64));
}

TEST_CASE(frames_as_large_as_the_interface_takes_leave_in_order) {
  if (!has_own_network()) return;
  run("ip link set wan mtu 9000 && ip link set core mtu 9000");
  for (const TransmitMethod method : {TransmitMethod::automatic, TransmitMethod::packet}) {
    Wire wire = wire_by(method);
    wire.resize(9200);
    CHECK(wire.back_end().reason.empty());
    const Ear core("core");
    CHECK_EQUAL(send(wire, 5, 10, 8900), 10U);
    CHECK(are_in_order(received(core, 10), 5, 10));
    wire.resize(slot_size);
    CHECK_EQUAL(send(wire, 30, 10), 10U);
    CHECK(are_in_order(received(core, 10), 30, 10));
  }
  for (const char* device : {"wan", "core"}) run(std::string("ip link set mtu 20000 dev ") + device);
  Wire wire = wire_by(TransmitMethod::automatic);
  wire.resize(20200);  // the next way that can takes over, and the better one comes back
  CHECK(wire.back_end().name == "packet");
  CHECK(wire.back_end().reason == "bpf: frames of 20200 octets are larger than a program can make them; xdp: frames of 20200 octets do not fit its buffers of 4096");
  const Ear core("core");
  CHECK_EQUAL(send(wire, 40, 10, 19900), 10U);
  CHECK(are_in_order(received(core, 10), 40, 10));
  wire.resize(15900);
  CHECK(wire.back_end().name == "bpf");
  CHECK_EQUAL(send(wire, 50, 10, 15700), 10U);
  CHECK(are_in_order(received(core, 10), 50, 10));
  bool is_refused = false;
  try {
    wire_by(TransmitMethod::xdp, 9200);
  } catch (const EngineError& error) {
    is_refused = std::string(error.what()).find("9200 octets") != std::string::npos;
  }
  CHECK(is_refused);
  run("ip link set wan mtu 1500 && ip link set core mtu 1500");
}

// Of both families, to one host and to groups: they leave in their order, and do not come back to who has joined the group on this machine.
TEST_CASE(a_raw_socket_keeps_the_order_of_both_families) {
  if (!has_own_network()) return;
  run("ip address replace 10.9.0.1/16 dev wan && ip route replace default via 10.9.0.2 onlink dev wan && "
      "ip neighbour replace 10.9.0.2 lladdr 02:00:00:00:00:01 dev wan && ip -6 address replace fe80::1/64 dev wan nodad && "
      "ip -6 neighbour replace fe80::2 lladdr 02:00:00:00:00:01 dev wan");
  constexpr std::uint32_t group = 0xef010203;
  const Descriptor listener(socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK, protocol_esp)), listener6(socket(AF_INET6, SOCK_RAW | SOCK_NONBLOCK, protocol_esp));
  ip_mreqn join{};
  join.imr_multiaddr.s_addr = htonl(group);
  join.imr_ifindex = Device::named("wan").index;
  CHECK(setsockopt(listener.number(), IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof join) == 0);
  ipv6_mreq join6{};
  join6.ipv6mr_multiaddr.s6_addr[0] = 0xff;
  join6.ipv6mr_multiaddr.s6_addr[1] = 0x02;
  join6.ipv6mr_multiaddr.s6_addr[15] = 0x99;
  join6.ipv6mr_interface = static_cast<unsigned>(join.imr_ifindex);
  CHECK(setsockopt(listener6.number(), IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &join6, sizeof join6) == 0);

  constexpr std::uint32_t count = 32;
  std::vector<Octets> burst;
  for (std::uint32_t number = 0; number < count; ++number) {
    Octets payload(40);
    store32(payload.data(), number);
    if (number % 4 < 2) {
      burst.push_back(frame_around(ipv4(payload, {.protocol = protocol_esp, .destination = number % 4 == 0 ? group : 0x0a090002U})));
      continue;
    }
    Octets packet = ipv6(payload, {.next_header = protocol_esp});
    std::fill(packet.begin() + 24, packet.begin() + 40, std::uint8_t{0});
    packet[24] = number % 4 == 2 ? 0xff : 0xfe;
    packet[25] = number % 4 == 2 ? 0x02 : 0x80;
    packet[39] = number % 4 == 2 ? 0x99 : 0x02;
    burst.push_back(frame_around(packet));
    store16(&burst.back()[12], ETH_P_IPV6);
  }
  const Ear core("core", ETH_P_ALL);
  Wire wire = wire_by(TransmitMethod::raw);
  CHECK_EQUAL(send(wire, burst), count);
  std::uint32_t arrived = 0;
  while (arrived < count) {
    const Octets frame = core.receive();
    if (frame.empty()) break;
    const bool is_v6 = load16(&frame[12]) == ETH_P_IPV6;
    if (frame[is_v6 ? 20 : 23] != protocol_esp) continue;  // what the kernel has to say to its neighbours
    CHECK(packet_of(frame) == packet_of(burst[arrived]));
    ++arrived;
  }
  CHECK_EQUAL(arrived, count);
  std::array<std::uint8_t, 2000> room;
  for (const Descriptor* one : {&listener, &listener6}) CHECK(recv(one->number(), room.data(), room.size(), 0) < 0);
}
