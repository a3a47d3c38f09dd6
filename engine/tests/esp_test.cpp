#include "esp.hpp"

#include <deque>
#include <map>
#include <memory>

#include "build.hpp"
#include "checksum.hpp"
#include "error.hpp"
#include "forms.hpp"
#include "harness.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

TEST_CASE(bursts_of_every_size_come_through_whole_and_in_order) {
  Esp esp;
  std::vector<std::shared_ptr<Sa>> sas;
  for (const Keys& keys : all_transforms()) sas.push_back(keys.sa(static_cast<std::uint32_t>(1000 + sas.size())));
  const SaSet set(sas);
  Random random(5);
  struct Volume {
    std::uint64_t packets, octets;
  };
  std::map<const Sa*, Volume> volumes;
  for (const std::size_t count : {1U, 2U, 7U, 31U, 32U, 64U, 127U, 128U, 129U, 300U}) {
    std::vector<Octets> originals;
    std::deque<Buffer> buffers;
    for (std::size_t index = 0; index < count; ++index) {
      originals.push_back(ipv4(random.octets(random.below(1400))));
      buffers.emplace_back(originals.back());
      buffers.back().packet.sa = sas[random.below(static_cast<std::uint32_t>(sas.size()))].get();
      Volume& volume = volumes[buffers.back().packet.sa];
      ++volume.packets;
      volume.octets += originals.back().size();
    }
    std::vector<Packet> burst;
    for (const Buffer& buffer : buffers) burst.push_back(buffer.packet);
    esp.encapsulate(burst);
    for (const Packet& packet : burst) CHECK(packet.reason == Reason::delivered);
    esp.decapsulate(set, burst);
    for (std::size_t index = 0; index < count; ++index) {
      CHECK(burst[index].reason == Reason::delivered);
      CHECK(Octets(burst[index].data, burst[index].data + burst[index].length) == originals[index]);
    }
  }
  for (const std::shared_ptr<Sa>& sa : sas) {
    const SaCounters& counters = sa->counters();
    CHECK(counters.encrypted_packets == volumes[sa.get()].packets && counters.decrypted_packets == volumes[sa.get()].packets);
    CHECK(counters.encrypted_bytes == volumes[sa.get()].octets && counters.decrypted_bytes == volumes[sa.get()].octets);
  }
}

TEST_CASE(bad_packets_do_not_disturb_their_neighbours) {
  Esp esp;
  const auto sa = Keys(Cipher::aes_128_cbc, Integrity::hmac_sha2_256_128).sa();
  const SaSet set({sa});
  Random random(6);
  const Octets original = ipv4(random.octets(700));
  for (int turn = 0; turn < 50; ++turn) {
    std::deque<Buffer> buffers;
    std::vector<Packet> burst;
    std::vector<bool> is_bad;
    for (int index = 0; index < 128; ++index) {
      buffers.emplace_back(original);
      buffers.back().packet.sa = sa.get();
      burst.push_back(buffers.back().packet);
      is_bad.push_back(random.below(3) == 0);
    }
    esp.encapsulate(burst);
    for (std::size_t index = 0; index < burst.size(); ++index) {
      if (is_bad[index]) burst[index].data[20 + random.below(burst[index].length - 20)] ^= 0x10;
    }
    esp.decapsulate(set, burst);
    for (std::size_t index = 0; index < burst.size(); ++index) {
      CHECK_EQUAL(burst[index].reason == Reason::delivered, !is_bad[index]);
      if (!is_bad[index]) CHECK(Octets(burst[index].data, burst[index].data + burst[index].length) == original);
    }
  }
}

TEST_CASE(a_packet_that_was_given_up_before_is_passed_by) {
  Esp esp;
  const auto sa = Keys(Cipher::aes_128_gcm, Integrity::none).sa();
  Buffer good(ipv4(Octets(10))), bad(ipv4(Octets(10)));
  std::array<Packet, 2> burst = {bad.packet, good.packet};
  for (Packet& packet : burst) packet.sa = sa.get();
  burst[0].reason = Reason::oversize;
  esp.encapsulate(burst);
  CHECK(burst[0].reason == Reason::oversize);
  CHECK(burst[1].reason == Reason::delivered);
  CHECK(Octets(burst[0].data, burst[0].data + burst[0].length) == ipv4(Octets(10)));
}

namespace {

Octets packet_of(Family family, const Octets& payload) { return family == Family::ipv6 ? ipv6(payload, {.next_header = 253}) : ipv4(payload); }

}  // namespace

TEST_CASE(no_room_is_a_reason_and_not_an_overrun) {
  Esp esp;
  Random random(17);
  for (const std::shared_ptr<Sa>& sa : all_forms()) {
    const Octets original = packet_of(random.below(2) ? Family::ipv6 : Family::ipv4, Octets(101));
    Buffer roomy(original);
    roomy.packet.sa = sa.get();
    esp.encapsulate({&roomy.packet, 1});
    CHECK(roomy.packet.reason == Reason::delivered);
    const std::uint32_t head = esp_headroom - roomy.packet.headroom;
    const bool covers_behind = sa->protocol() == Protocol::ah && sa->has_extended_sequence();
    const std::uint32_t tail = covers_behind ? 4 : esp_tailroom - roomy.packet.tailroom;
    CHECK(head <= esp_headroom && tail <= esp_tailroom);
    for (std::uint32_t headroom = head < 3 ? 0 : head - 3; headroom <= head; ++headroom) {
      for (std::uint32_t tailroom = tail < 3 ? 0 : tail - 3; tailroom <= tail; ++tailroom) {
        const std::size_t size = headroom + original.size() + tailroom;  // exactly as large as told, so that a sanitizer sees an overrun
        const std::unique_ptr<std::uint8_t[]> storage(new std::uint8_t[size]);
        std::copy(original.begin(), original.end(), storage.get() + headroom);
        Packet packet;
        packet.data = storage.get() + headroom;
        packet.length = static_cast<std::uint32_t>(original.size());
        packet.headroom = headroom;
        packet.tailroom = tailroom;
        packet.sa = sa.get();
        esp.encapsulate({&packet, 1});
        const bool has_room = headroom == head && tailroom == tail;
        CHECK(packet.reason == (has_room ? Reason::delivered : Reason::oversize));
        if (has_room) CHECK(packet.data == storage.get() && packet.headroom == 0);
      }
    }
  }
}

TEST_CASE(a_burst_of_all_forms_comes_through) {
  Esp esp;
  const std::vector<std::shared_ptr<Sa>> sas = all_forms();
  const SaSet set(sas);
  Random random(18);
  for (int turn = 0; turn < 30; ++turn) {
    std::deque<Buffer> buffers;
    std::vector<Octets> originals;
    std::vector<Packet> burst;
    for (int index = 0; index < 128; ++index) {
      originals.push_back(packet_of(random.below(2) ? Family::ipv6 : Family::ipv4, random.octets(random.below(1200))));
      buffers.emplace_back(originals.back());
      buffers.back().packet.sa = sas[random.below(static_cast<std::uint32_t>(sas.size()))].get();
      burst.push_back(buffers.back().packet);
    }
    esp.encapsulate(burst);
    for (Packet& packet : burst) {
      CHECK(packet.reason == Reason::delivered);
      CHECK(packet.length <= 1500);
      packet.outer.family = Family::none;
    }
    esp.decapsulate(set, burst);
    for (std::size_t index = 0; index < burst.size(); ++index) {
      CHECK_EQUAL(static_cast<int>(burst[index].reason), static_cast<int>(Reason::delivered));
      CHECK(Octets(burst[index].data, burst[index].data + burst[index].length) == originals[index]);
    }
  }
}

TEST_CASE(damage_in_any_form_gets_a_reason_and_stays_inside) {
  Esp esp;
  const std::vector<std::shared_ptr<Sa>> sas = all_forms();
  const SaSet set(sas);
  Random random(19);
  for (int turn = 0; turn < 10000; ++turn) {
    Buffer sealed(packet_of(random.below(2) ? Family::ipv6 : Family::ipv4, random.octets(random.below(100))));
    sealed.packet.sa = sas[random.below(static_cast<std::uint32_t>(sas.size()))].get();
    esp.encapsulate({&sealed.packet, 1});
    Octets octets = sealed.octets();
    octets.resize(octets.size() - random.below(2) * random.below(static_cast<std::uint32_t>(octets.size())));
    for (std::uint32_t change = random.below(4); change != 0 && !octets.empty(); --change) {
      octets[random.below(static_cast<std::uint32_t>(octets.size()))] = static_cast<std::uint8_t>(random.below(256));
    }
    if (octets.size() >= 20 && octets[0] == 0x45) write_header_checksum(octets.data());
    const std::unique_ptr<std::uint8_t[]> exact(new std::uint8_t[octets.size() + 1]);
    std::copy(octets.begin(), octets.end(), exact.get());
    Packet packet;
    packet.data = exact.get();
    packet.length = static_cast<std::uint32_t>(octets.size());
    esp.decapsulate(set, {&packet, 1});
    if (packet.reason != Reason::delivered) continue;
    CHECK(packet.data >= exact.get() && packet.data + packet.length <= exact.get() + octets.size());
  }
}

// Linux fills in an identification of 0 when it comes from a raw socket and DF is not set (raw(7)), and AH covers it.
TEST_CASE(no_identification_is_left_to_the_kernel) {
  Esp esp;
  const Keys keys(Cipher::null, Integrity::hmac_sha1_96, 0x77);
  SaParameters parameters = keys.parameters();
  parameters.protocol = Protocol::ah;
  const auto tunnel = std::make_shared<Sa>(parameters);
  parameters.spi = 0x1001;
  parameters.mode = Mode::transport;
  const auto transport = std::make_shared<Sa>(parameters);
  const auto sealed = [&esp](const std::shared_ptr<Sa>& sa, const Octets& octets) {
    Buffer buffer(octets);
    buffer.packet.sa = sa.get();
    esp.encapsulate({&buffer.packet, 1});
    CHECK(buffer.packet.reason == Reason::delivered);
    return buffer.octets();
  };
  bool is_zero = false;
  for (int packet = 0; packet < 66000; ++packet) is_zero = is_zero || load16(&sealed(tunnel, ipv4({}))[4]) == 0;
  CHECK(!is_zero);
  CHECK_EQUAL(load16(&sealed(transport, ipv4(Octets(8), {.identification = 5}))[4]), 5);
  CHECK_EQUAL(load16(&sealed(transport, ipv4(Octets(8), {.identification = 0, .fragment = Ipv4::dont_fragment}))[4]), 0);
  Octets chosen = sealed(transport, ipv4(Octets(8), {.identification = 0}));
  CHECK(load16(&chosen[4]) != 0);
  CHECK(is_checksum_right(chosen.data(), 20));
  Packet packet;
  packet.data = chosen.data();
  packet.length = static_cast<std::uint32_t>(chosen.size());
  esp.decapsulate(SaSet({transport}), {&packet, 1});
  CHECK(packet.reason == Reason::delivered);
}

// A packet behind the first of a super-packet has nothing before it. What cannot be opened there must not count as seen.
TEST_CASE(what_lacks_its_header_is_refused_before_it_counts_as_seen) {
  Esp esp;
  for (const Keys& keys : {Keys(Cipher::aes_128_gcm, Integrity::none, 0x78), Keys(Cipher::aes_128_cbc, Integrity::hmac_sha1_96, 0x79)}) {
    for (const Mode mode : {Mode::tunnel, Mode::transport}) {
      for (const bool esn : {false, true}) {
        SaParameters parameters = keys.parameters();
        parameters.mode = mode;
        parameters.replay_window = 64;
        parameters.extended_sequence = esn;
        parameters.sender_id_bits = 0;
        parameters.is_apart = true;
        if (parameters.sender_id) parameters.sender_id = 0;
        const auto sa = std::make_shared<Sa>(parameters);
        const Octets original = ipv4(Octets(100));
        Buffer buffer(original);
        buffer.packet.sa = sa.get();
        esp.encapsulate({&buffer.packet, 1});
        const SaSet set({sa});
        const auto open = [&](bool has_header) {
          Octets octets = buffer.octets();
          Packet packet;
          packet.data = octets.data();
          packet.length = static_cast<std::uint32_t>(octets.size());
          CHECK(parse_outer(packet) == Reason::delivered);
          if (!has_header) packet.headroom = packet.outer.header_length = 0;
          esp.decapsulate(set, {&packet, 1});
          return packet.reason;
        };
        const bool needs_header = mode == Mode::transport || (esn && keys.cipher == Cipher::aes_128_gcm);
        CHECK_EQUAL(sa->reaches_before(), needs_header);
        CHECK(open(false) == (needs_header ? Reason::oversize : Reason::delivered));
        CHECK(open(true) == (needs_header ? Reason::delivered : Reason::replayed));
      }
    }
  }
}

TEST_CASE(octets_at_random_never_pass) {
  Esp esp;
  std::vector<std::shared_ptr<Sa>> sas;
  for (const Keys& keys : all_transforms()) sas.push_back(keys.sa(static_cast<std::uint32_t>(1000 + sas.size())));
  const SaSet set(sas);
  Random random(7);
  for (int turn = 0; turn < 30000; ++turn) {
    Octets octets = random.octets(random.below(200));
    if (random.below(4) != 0) {
      octets = ipv4(octets, {.protocol = protocol_esp});
      if (octets.size() >= 24) store32(&octets[20], 1000 + random.below(static_cast<std::uint32_t>(sas.size())));
    }
    const std::unique_ptr<std::uint8_t[]> exact(new std::uint8_t[octets.size() + 1]);
    std::copy(octets.begin(), octets.end(), exact.get());
    Packet packet;
    packet.data = exact.get();
    packet.length = static_cast<std::uint32_t>(octets.size());
    esp.decapsulate(set, {&packet, 1});
    CHECK(packet.reason != Reason::delivered);
  }
}

namespace {

Octets udp_datagram(const Header& header) {
  Octets payload(8 + 40);
  store16(&payload[4], static_cast<std::uint16_t>(payload.size()));
  Octets packet = ipv4(payload, header);
  store16(&packet[26], finish_sum(add_sum(&packet[20], 48, pseudo_header_sum(packet.data(), protocol_udp, 48))));
  return packet;
}

}  // namespace

// A NAT may have changed addresses where UDP was agreed on because of one (RFC 3948 3.1.2). Elsewhere the checksum finds out that somebody did.
TEST_CASE(checksums_are_made_anew_only_where_a_nat_was_found) {
  Esp esp;
  for (const bool has_nat : {true, false}) {
    const Keys keys(Cipher::aes_128_cbc, Integrity::hmac_sha1_96, 0x77);
    SaParameters parameters = keys.parameters();
    parameters.mode = Mode::transport;
    parameters.is_apart = true;
    parameters.udp = UdpPorts{4500, 4500};
    Sa sender(parameters);
    if (!has_nat) parameters.udp.reset();
    const SaSet receivers({std::make_shared<Sa>(parameters)});
    const Octets original = udp_datagram({.protocol = protocol_udp});
    Buffer buffer(original);
    buffer.packet.sa = &sender;
    esp.encapsulate({&buffer.packet, 1});
    buffer.packet.data[15] ^= 1;  // the source, on the way
    write_header_checksum(buffer.packet.data);
    Buffer arrived(buffer.octets());
    esp.decapsulate(receivers, {&arrived.packet, 1});
    CHECK(arrived.packet.reason == Reason::delivered);
    const Octets expected = has_nat ? udp_datagram({.protocol = protocol_udp, .source = 0x0a010109 ^ 1}) : original;
    const Octets found = arrived.octets();
    CHECK_EQUAL(found.size(), expected.size());
    CHECK(std::equal(expected.begin() + ipv4_header_size, expected.end(), found.begin() + ipv4_header_size));
  }
}

TEST_CASE(udp_to_no_port_is_refused) {
  SaParameters parameters = Keys(Cipher::aes_128_gcm, Integrity::none).parameters();
  parameters.udp = UdpPorts{4500, 0};
  bool is_refused = false;
  try {
    const Sa sa(parameters);
  } catch (const EngineError&) {
    is_refused = true;
  }
  CHECK(is_refused);
}
