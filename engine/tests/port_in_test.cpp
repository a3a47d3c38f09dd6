// ESP on its way into a port: by the rings, and by the TAP.
#include "port_rig.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "memory.hpp"
#include "offload.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

constexpr Tag tag = {0x12, 0x34}, other_tag = {0x56, 0x78};

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
  CHECK_EQUAL(sum(rig.port.traffic(), "inbound_ring_frames"), 500U);
  CHECK_EQUAL(sum(rig.port.overruns(), ""), 0U);
}

}  // namespace

TEST_CASE(esp_comes_in_by_the_packet_ring_while_sas_change) {
  if (has_own_network()) show_esp_by_a_ring(ReceiveMethod::ring);
}

TEST_CASE(esp_comes_in_by_the_bpf_ring_while_sas_change) {
  if (has_bpf_ring()) show_esp_by_a_ring(ReceiveMethod::bpf);
}

// A WakeUp may be older than the rest in which the thread reads it, and it may read a newer one with it: it must look whether its ring rests when it has read all of them.
TEST_CASE(a_wake_up_that_is_read_behind_older_ones_wakes_the_thread) {
  if (!has_bpf_ring()) return;
  Rig rig(ReceiveMethod::bpf);
  const EspTable table(rig.port);
  const auto sa = Keys(Cipher::aes_128_gcm, Integrity::none, 0x33).sa(2000);
  rig.port.set_sas({sa}, {});
  rig.port.start();
  Octets esp(60);
  store32(esp.data(), sa->spi());
  store32(&esp[4], 1);
  const Octets forged = frame_around(ipv4(esp, {.protocol = protocol_esp}));
  Octets older = forged;
  std::copy(token.begin(), token.end(), older.begin() + ETH_ALEN);
  constexpr std::uint64_t turns = 500;
  bool is_awake = true;
  for (std::uint64_t turn = 0; turn < turns && is_awake; ++turn) {
    for (std::uint64_t frame = turn % 32; frame > 0; --frame) rig.kernel.send(older);
    rig.core.send(forged);
    is_awake = rig.comes_to("inbound_", turn + 1);
  }
  CHECK(is_awake);
  CHECK_EQUAL(rig.count("inbound_authentication"), turns);
  CHECK_EQUAL(sum(rig.port.traffic(), "inbound_frames"), turns);  // a WakeUp is none
  rig.port.stop();
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

namespace {

// Sends a frame by a device together with what its driver says of it, as super-packets come.
void send_offloaded(const char* device, const Octets& frame, const Offload& offload) {
  const Descriptor sender(socket(AF_PACKET, SOCK_RAW, 0));
  const int yes = 1;
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_IP);
  address.sll_ifindex = static_cast<int>(if_nametoindex(device));
  Octets whole(10);
  offload.write(whole.data());
  whole.insert(whole.end(), frame.begin(), frame.end());
  if (setsockopt(sender.number(), SOL_PACKET, PACKET_VNET_HDR, &yes, sizeof yes) != 0 ||
      sendto(sender.number(), whole.data(), whole.size(), 0, reinterpret_cast<const sockaddr*>(&address), sizeof address) != static_cast<ssize_t>(whole.size())) {
    fail(__FILE__, __LINE__, "PACKET_VNET_HDR");
  }
}

// ESP in UDP as the kernel joins it: the headers of the first packet, and what is behind those of all.
void send_super_packet(const char* device, const std::vector<Octets>& packets) {
  constexpr std::uint32_t headers = ipv4_header_size + udp_header_size;
  Octets super = packets.front();
  for (const Octets& packet : std::span(packets).subspan(1)) super.insert(super.end(), packet.begin() + headers, packet.end());
  store16(&super[2], static_cast<std::uint16_t>(super.size()));
  write_header_checksum(super.data());
  const auto length = static_cast<std::uint16_t>(super.size() - ipv4_header_size);
  store16(&super[24], length);
  store16(&super[26], static_cast<std::uint16_t>(~finish_sum(pseudo_header_sum(super.data(), protocol_udp, length))));
  Offload offload = Offload::of_checksum(14 + ipv4_header_size, protocol_udp);
  offload.gso_type = Offload::gso_udp_segmentation;
  offload.segment_size = static_cast<std::uint16_t>(packets.front().size() - headers);
  offload.header_length = 14 + headers;
  send_offloaded(device, frame_around(super), offload);
}

}  // namespace

// More octets than the arena has room for at once, and in those more packets than a burst.
TEST_CASE(super_packets_that_wait_are_taken_as_far_as_there_is_room) {
  if (!has_own_network()) return;
  Rig rig;
  run("ip link set in mtu 65000");
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0xac);
  SaParameters parameters = keys.parameters();
  parameters.udp = UdpPorts{4500, 4500};
  parameters.is_apart = true;
  Sa sender(parameters);
  rig.port.set_sas({std::make_shared<Sa>(parameters)}, {});
  constexpr std::uint32_t supers = 12, segments = 64;
  Esp esp;
  for (std::uint32_t number = 0; number < supers; ++number) {
    std::vector<Octets> packets;
    for (std::uint32_t segment = 0; segment < segments; ++segment) {
      Buffer buffer(ipv4(Octets(500)));
      buffer.packet.sa = &sender;
      esp.encapsulate({&buffer.packet, 1});
      packets.push_back(buffer.octets());
    }
    send_super_packet("in", packets);
  }
  rig.port.start();
  CHECK(rig.comes_to("inbound_", supers * segments));
  rig.port.stop();
  CHECK_EQUAL(rig.count("inbound_delivered"), supers * segments);
  CHECK_EQUAL(sum(rig.port.traffic(), "inbound_frames"), supers);
  CHECK_EQUAL(sum(rig.port.traffic(), "inbound_ring_frames"), 0U);
}

// It comes off the wire and is verified, and the kernel takes nothing.
TEST_CASE(what_the_kernel_does_not_take_is_counted) {
  if (!has_own_network()) return;
  Rig rig(ReceiveMethod::ring);
  const EspTable table(rig.port);
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0xad);
  SaParameters parameters = keys.parameters();
  parameters.is_apart = true;
  Sa sender(parameters);
  rig.port.set_sas({std::make_shared<Sa>(parameters)}, {});
  rig.port.start();
  Esp esp;
  const auto send = [&](std::uint32_t count) {
    for (; count > 0; --count) {
      Buffer buffer(ipv4(Octets(100)));
      buffer.packet.sa = &sender;
      esp.encapsulate({&buffer.packet, 1});
      rig.core.send(frame_around(buffer.octets()));
    }
  };
  run("ip link set in down");
  send(5);
  CHECK(rig.comes_to("inbound_", 5));
  CHECK_EQUAL(rig.count("inbound_inject_failed"), 5U);
  run("ip link set in up");
  send(5);
  CHECK(rig.comes_to("inbound_", 10));
  CHECK_EQUAL(rig.count("inbound_delivered"), 5U);
  rig.port.stop();
}

// A thread goes on where memory is short: what it was for is lost, and counted.
TEST_CASE(fragments_for_which_there_is_no_memory_are_counted) {
  if (!has_own_network()) return;
  Rig rig;
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0xb8);
  const auto sa = keys.sa();
  rig.port.set_sas({sa}, {});
  rig.port.start();
  Esp esp;
  Buffer buffer(ipv4(Octets(2900)));
  buffer.packet.sa = sa.get();
  esp.encapsulate({&buffer.packet, 1});
  const Octets whole = buffer.octets();
  constexpr std::uint32_t first = 1480;
  const Octets begin = frame_around(ipv4({whole.begin() + 20, whole.begin() + 20 + first}, {.protocol = protocol_esp, .fragment = Ipv4::more_fragments}));
  const Octets end = frame_around(ipv4({whole.begin() + 20 + first, whole.end()}, {.protocol = protocol_esp, .fragment = first / 8}));
  {
    const Scarcity scarcity(4096);  // enough to put them together, and not for room behind
    rig.kernel.send(begin);
    rig.kernel.send(end);
    CHECK(rig.comes_to("inbound_", 2));
  }
  CHECK_EQUAL(rig.count("inbound_fragment"), 2U);
  rig.kernel.send(begin);
  rig.kernel.send(end);
  CHECK(rig.comes_to("inbound_", 3));
  CHECK_EQUAL(rig.count("inbound_delivered"), 1U);
  CHECK(rig.port.fault().empty());
  rig.port.stop();
}

TEST_CASE(segments_for_which_there_is_no_memory_are_counted) {
  if (!has_own_network()) return;
  Rig rig;
  run("ip link set in mtu 65000");
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0xb9);
  SaParameters parameters = keys.parameters();
  parameters.mode = Mode::transport;
  parameters.udp = UdpPorts{4500, 4500};
  parameters.is_apart = true;
  Sa sender(parameters);
  rig.port.set_sas({std::make_shared<Sa>(parameters)}, {});
  Esp esp;
  const auto sealed = [&] {
    Buffer buffer(ipv4(Octets(8000), {.identification = 1}));
    buffer.packet.sa = &sender;
    esp.encapsulate({&buffer.packet, 1});
    return buffer.octets();
  };
  const std::vector<Octets> packets = {sealed(), sealed(), sealed()}, again = {sealed(), sealed(), sealed()};
  send_super_packet("in", packets);
  {
    const Scarcity scarcity(4096);
    rig.port.start();
    CHECK(rig.comes_to("inbound_", 3));
  }
  send_super_packet("in", again);
  CHECK(rig.comes_to("inbound_", 6));
  CHECK_EQUAL(rig.count("inbound_delivered"), 3U);
  CHECK_EQUAL(rig.count("inbound_oversize"), 3U);
  rig.port.stop();
}

// AH with extended sequence numbers wants room behind the packet, which nobody has who was put together (RFC 4302 2.5.1).
TEST_CASE(ah_that_was_fragmented_has_room_for_what_is_covered_and_not_sent) {
  if (!has_own_network()) return;
  Rig rig;
  const Keys keys(Cipher::null, Integrity::hmac_sha2_256_128, 0xba);
  SaParameters parameters = keys.parameters();
  parameters.protocol = Protocol::ah;
  parameters.replay_window = 64;
  parameters.extended_sequence = true;
  parameters.sender_id_bits = 0;
  parameters.is_apart = true;
  Sa sender(parameters);
  rig.port.set_sas({std::make_shared<Sa>(parameters)}, {});
  rig.port.start();
  Esp esp;
  Buffer buffer(ipv4(Octets(1000)));
  buffer.packet.sa = &sender;
  esp.encapsulate({&buffer.packet, 1});
  const Octets whole = buffer.octets();
  constexpr std::uint32_t first = 800;
  Header header{.ttl = whole[8], .protocol = protocol_ah, .identification = load16(&whole[4]), .fragment = Ipv4::more_fragments};
  rig.kernel.send(frame_around(ipv4({whole.begin() + 20, whole.begin() + 20 + first}, header)));
  header.fragment = first / 8;
  rig.kernel.send(frame_around(ipv4({whole.begin() + 20 + first, whole.end()}, header)));
  CHECK(rig.comes_to("inbound_", 1));
  rig.port.stop();
  CHECK_EQUAL(rig.count("inbound_delivered"), 1U);
}

// The rules judge by it what came out of which SA (RFC 4301 5.2). An SA without a tag has one that they do not know.
TEST_CASE(what_is_decrypted_has_the_tag_of_its_sa) {
  if (!has_own_network()) return;
  Rig rig;
  const auto first = Keys(Cipher::aes_128_gcm, Integrity::none, 0x51).sa();
  const auto second = Keys(Cipher::aes_128_gcm, Integrity::none, 0x52).sa(first->spi() + 1);
  rig.port.start();
  for (const auto& sa : {first, second}) {
    rig.port.set_sas({first, second}, {{rig.queue, {sa}}}, {{first->spi(), tag}, {second->spi(), other_tag}});
    CHECK(rig.round_trip(ipv4(Octets(20)), nullptr, sa == first ? tag : other_tag));
  }
  rig.port.set_sas({first, second}, {{rig.queue, {first}}}, {{second->spi(), other_tag}});
  CHECK(rig.round_trip(ipv4(Octets(20))));
  rig.port.stop();
}

// Each SA has selectors of its own, and the frame of a super-packet has one tag.
TEST_CASE(datagrams_of_two_sas_do_not_go_in_one_frame) {
  if (!has_own_network()) return;
  Rig rig;
  const auto first = Keys(Cipher::aes_128_gcm, Integrity::none, 0x53).sa();
  const auto second = Keys(Cipher::aes_128_gcm, Integrity::none, 0x54).sa(first->spi() + 1);
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
