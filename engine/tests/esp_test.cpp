#include "esp.hpp"

#include <deque>

#include "build.hpp"
#include "harness.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

TEST_CASE(bursts_of_every_size_come_through_whole_and_in_order) {
  Esp esp;
  std::vector<std::shared_ptr<Sa>> sas;
  for (const Keys& keys : all_transforms()) sas.push_back(keys.sa(static_cast<std::uint32_t>(1000 + sas.size())));
  const SaSet set(sas);
  Random random(5);
  for (const std::size_t count : {1U, 2U, 7U, 31U, 32U, 64U, 127U, 128U, 129U, 300U}) {
    std::vector<Octets> originals;
    std::deque<Buffer> buffers;
    for (std::size_t index = 0; index < count; ++index) {
      originals.push_back(ipv4(random.octets(random.below(1400))));
      buffers.emplace_back(originals.back());
      buffers.back().packet.sa = sas[random.below(static_cast<std::uint32_t>(sas.size()))].get();
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

TEST_CASE(no_room_is_a_reason_and_not_an_overrun) {
  Esp esp;
  const auto sa = Keys(Cipher::aes_256_cbc, Integrity::hmac_sha2_512_256).sa();
  const Octets original = ipv4(Octets(101));
  const std::uint32_t head = 20 + 8 + 16, tail = (121 + 2 + 15) / 16 * 16 - 121 + 32;
  for (std::uint32_t headroom = 0; headroom <= head; ++headroom) {
    for (std::uint32_t tailroom = 0; tailroom <= tail; ++tailroom) {
      Octets storage(headroom + original.size() + tailroom);  // exactly as large as told, so that a sanitizer sees an overrun
      std::copy(original.begin(), original.end(), storage.begin() + headroom);
      Packet packet;
      packet.data = storage.data() + headroom;
      packet.length = static_cast<std::uint32_t>(original.size());
      packet.headroom = headroom;
      packet.tailroom = tailroom;
      packet.sa = sa.get();
      esp.encapsulate({&packet, 1});
      const bool has_room = headroom == head && tailroom == tail;
      CHECK(packet.reason == (has_room ? Reason::delivered : Reason::oversize));
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
