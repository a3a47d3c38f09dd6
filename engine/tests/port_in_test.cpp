// ESP on its way into a port: by the rings, and by the TAP.
#include "port_rig.hpp"

#include <atomic>
#include <thread>

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

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

}  // namespace

TEST_CASE(esp_comes_in_by_the_packet_ring_while_sas_change) {
  if (has_own_network()) show_esp_by_a_ring(ReceiveMethod::ring);
}

TEST_CASE(esp_comes_in_by_the_bpf_ring_while_sas_change) {
  if (has_bpf_ring()) show_esp_by_a_ring(ReceiveMethod::bpf);
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
