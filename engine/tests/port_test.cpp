// The threads of a port, with real TAPs and a real wire in a network namespace of the test's own, which is gone when the test ends:
//
//   here ── TAP "out" ── port ── wan ══ core ── here ── TAP "in" ── port ── TAP "in" ── here
//
// The test plays the kernel's part: it hands frames to the TAPs and looks at what comes out. Run under ThreadSanitizer it shows that
// Python's calls and the two threads share nothing unguarded.
#include "port.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>

#include <cstdlib>
#include <set>

#include "build.hpp"
#include "harness.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

constexpr MacAddress token = {0x02, 0x47, 0x44, 0x4f, 0x49, 0x77};

bool has_own_network() {
  static const bool is_ready = [] {
    if (geteuid() != 0 || unshare(CLONE_NEWNET) != 0) return false;
    return std::system("ip link add name wan type veth peer name core && ip link set wan up && ip link set core up") == 0;
  }();
  if (!is_ready) std::fprintf(stderr, "skipped: needs root and network namespaces\n");
  return is_ready;
}

Descriptor open_tap(const char* name) {
  Descriptor tap(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  ifreq request{};
  std::strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  request.ifr_flags = IFF_TAP | IFF_NO_PI | 0x4000;  // IFF_VNET_HDR
  if (ioctl(tap.number(), TUNSETIFF, &request) != 0) fail(__FILE__, __LINE__, "TUNSETIFF");
  const std::string command = std::string("sysctl -qw net.ipv6.conf.") + name + ".disable_ipv6=1; ip link set " + name + " txqueuelen 10000 up";
  if (std::system(command.c_str()) != 0) fail(__FILE__, __LINE__, "cannot bring up a TAP");
  return tap;
}

// A packet socket on one device.
class Ear {
 public:
  explicit Ear(const char* device) : socket_(socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_IP))) {
    const int buffer = 32 << 20;
    setsockopt(socket_.number(), SOL_SOCKET, 33, &buffer, sizeof buffer);  // SO_RCVBUFFORCE
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_IP);
    address.sll_ifindex = static_cast<int>(if_nametoindex(device));
    if (bind(socket_.number(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) fail(__FILE__, __LINE__, "bind");
  }
  void send(const Octets& frame) const {
    if (::send(socket_.number(), frame.data(), frame.size(), 0) != static_cast<ssize_t>(frame.size())) fail(__FILE__, __LINE__, "send");
  }
  // The next frame that came in (not one that we sent), empty after `milliseconds` without.
  [[nodiscard]] Octets receive(int milliseconds = 3000) const {
    while (true) {
      pollfd readable{socket_.number(), POLLIN, 0};
      if (poll(&readable, 1, milliseconds) <= 0) return {};
      Octets frame(70000);
      sockaddr_ll from{};
      socklen_t size = sizeof from;
      const ssize_t length = recvfrom(socket_.number(), frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
      if (length <= 0 || from.sll_pkttype == PACKET_OUTGOING) continue;
      frame.resize(static_cast<std::size_t>(length));
      return frame;
    }
  }

 private:
  Descriptor socket_;
};

Octets frame_around(const Octets& packet) {
  Octets frame = {0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x08, 0x00};
  frame.insert(frame.end(), packet.begin(), packet.end());
  return frame;
}

std::uint64_t sum(const NamedCounters& counters, const std::string& prefix) {
  std::uint64_t total = 0;
  for (const auto& [name, value] : counters) total += name.starts_with(prefix) ? value : 0;
  return total;
}

struct Rig {
  Descriptor out = open_tap("out"), in = open_tap("in");
  Ear to_protect{"out"}, core{"core"}, kernel{"in"};
  Port port{"wan", in.number(), token, 1500, 0};
  std::size_t queue = port.add_outbound(out.number());

  // Sends one packet round: into the port, over the core, and back out decrypted.
  bool round_trip(const Octets& packet) {
    to_protect.send(frame_around(packet));
    const Octets esp = core.receive();
    if (esp.size() < 34 || esp[23] != protocol_esp) return false;
    kernel.send(esp);
    Octets expected = frame_around(packet);
    std::copy(token.begin(), token.end(), expected.begin() + 6);
    return kernel.receive() == expected;
  }
};

}  // namespace

TEST_CASE(a_port_moves_packets_both_ways) {
  if (!has_own_network()) return;
  Rig rig;
  const auto sa = Keys(Cipher::aes_128_gcm, Integrity::none, 0x31).sa();
  rig.port.set_sas({sa}, {{rig.queue, sa}});
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
  rig.port.set_sas(sas, {{rig.queue, sas[0]}});
  rig.port.start();
  std::atomic<bool> is_done{false};
  std::thread control([&] {  // what Python does, as fast as it goes
    for (std::size_t turn = 0; !is_done; ++turn) {
      rig.port.set_sas(sas, {{rig.queue, sas[turn % sas.size()]}});
      static_cast<void>(sum(rig.port.counters(), "") + sum(rig.port.traffic(), ""));
      static_cast<void>(sas[turn % sas.size()]->counters().encrypted_packets);
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
  rig.port.set_sas({sa}, {{rig.queue, sa}});
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
    rig.port.set_sas({sa}, {{rig.queue, sa}});
    rig.port.start();
    CHECK(rig.round_trip(ipv4(Octets(turn))));
    rig.port.remove_outbound(rig.queue);
    rig.queue = rig.port.add_outbound(rig.out.number());
    rig.port.stop();
  }
}

TEST_CASE(a_burst_of_thousands_loses_nothing_uncounted) {
  if (!has_own_network()) return;
  Rig rig;
  const auto sa = Keys(Cipher::aes_128_gcm, Integrity::none, 0x34).sa();
  rig.port.set_sas({sa}, {{rig.queue, sa}});
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

TEST_CASE(datagrams_that_wait_go_to_the_kernel_in_one_frame) {
  if (!has_own_network()) return;
  Rig rig;
  const auto sa = Keys(Cipher::aes_128_gcm, Integrity::none, 0x35).sa();
  rig.port.set_sas({sa}, {{rig.queue, sa}});
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
