#include "reassembly.hpp"

#include <algorithm>
#include <numeric>

#include "build.hpp"
#include "harness.hpp"
#include "memory.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

std::vector<Octets> split(const Octets& payload, std::size_t size, std::uint16_t identification = 9, std::uint8_t tos = 0) {
  std::vector<Octets> fragments;
  for (std::size_t at = 0; at < payload.size(); at += size) {
    const std::size_t end = std::min(at + size, payload.size());
    const auto field = static_cast<std::uint16_t>(at / 8 | (end < payload.size() ? Ipv4::more_fragments : 0U));
    fragments.push_back(ipv4(Octets(payload.begin() + static_cast<long>(at), payload.begin() + static_cast<long>(end)),
                             {.tos = tos, .protocol = protocol_esp, .identification = identification, .fragment = field}));
  }
  return fragments;
}

Reassembled add(Reassembler& reassembler, Octets& fragment, double now = 0) {
  return reassembler.add(*Ipv4::parse(fragment.data(), fragment.size()), now);
}

}  // namespace

TEST_CASE(fragments_in_any_order_make_the_datagram) {
  Random random(8);
  Reassembler reassembler;
  for (int turn = 0; turn < 500; ++turn) {
    const Octets payload = random.octets(9 + random.below(6000));
    std::vector<Octets> fragments = split(payload, 8 * (1 + random.below(180)));
    if (fragments.size() < 2) continue;
    std::shuffle(fragments.begin(), fragments.end(), random.engine());
    for (std::size_t index = 0; index < fragments.size(); ++index) {
      const Reassembled result = add(reassembler, fragments[index]);
      CHECK_EQUAL(result.lost, 0U);
      CHECK_EQUAL(result.datagram != nullptr, index + 1 == fragments.size());
      if (!result.datagram) continue;
      CHECK_EQUAL(result.joined, fragments.size());
      CHECK(*result.datagram == ipv4(payload, {.protocol = protocol_esp, .identification = 9}));
    }
    CHECK_EQUAL(reassembler.pending_fragments(), 0U);
  }
}

TEST_CASE(datagrams_do_not_mix) {
  Reassembler reassembler;
  const Octets one(100, 1), other(100, 2);
  std::vector<Octets> first = split(one, 56, 1), second = split(other, 56, 2);
  CHECK(!add(reassembler, first[0]).datagram);
  CHECK(!add(reassembler, second[1]).datagram);
  CHECK(*add(reassembler, first[1]).datagram == ipv4(one, {.protocol = protocol_esp, .identification = 1}));
  CHECK(*add(reassembler, second[0]).datagram == ipv4(other, {.protocol = protocol_esp, .identification = 2}));
}

TEST_CASE(an_overlap_gives_the_datagram_up) {
  Reassembler reassembler;
  std::vector<Octets> fragments = split(Octets(300), 104);
  Octets other = fragments[0];
  other.back() ^= 1;
  add(reassembler, fragments[0]);
  add(reassembler, fragments[1]);
  CHECK_EQUAL(add(reassembler, other).lost, 3U);
  CHECK_EQUAL(reassembler.pending_fragments(), 0U);
}

// RFC 8200 4.5: networks duplicate packets.
TEST_CASE(a_fragment_that_comes_twice_is_passed_by) {
  Random random(21);
  for (int turn = 0; turn < 300; ++turn) {
    Reassembler reassembler;
    const Octets payload = random.octets(200 + random.below(4000));
    std::vector<Octets> fragments = split(payload, 8 * (1 + random.below(40)));
    if (fragments.size() < 2) continue;
    std::shuffle(fragments.begin(), fragments.end(), random.engine());
    for (std::size_t index = 0; index + 1 < fragments.size(); ++index) {
      CHECK_EQUAL(add(reassembler, fragments[index]).lost, 0U);
      CHECK_EQUAL(add(reassembler, fragments[random.below(static_cast<std::uint32_t>(index + 1))]).lost, 1U);
      CHECK_EQUAL(reassembler.pending_fragments(), index + 1);
    }
    const Reassembled result = add(reassembler, fragments.back());
    CHECK(result.datagram != nullptr && *result.datagram == ipv4(payload, {.protocol = protocol_esp, .identification = 9}));
    CHECK_EQUAL(result.joined, fragments.size());
  }
}

// Though the octets say the same: only a fragment that is as long as the one before, and from the same place, is the same.
TEST_CASE(another_fragment_with_the_same_octets_is_an_overlap) {
  const auto part = [](std::size_t at, std::size_t size, bool has_more = true) {
    return ipv4(Octets(size, 7), {.protocol = protocol_esp, .identification = 9,
                                  .fragment = static_cast<std::uint16_t>(at / 8 | (has_more ? Ipv4::more_fragments : 0U))});
  };
  for (Octets& overlap : std::vector<Octets>{part(80, 40), part(80, 88), part(88, 80), part(88, 72), part(80, 160), part(160, 160), part(160, 72),
                                             part(160, 84, false), part(240, 88), part(240, 80), part(240, 76, false), part(248, 76, false),
                                             part(160, 80, false)}) {
    Reassembler reassembler;
    std::vector<Octets> fragments = {part(80, 80), part(160, 80), part(240, 84, false)};
    for (Octets& fragment : fragments) {
      CHECK_EQUAL(add(reassembler, fragment).lost, 0U);
      CHECK_EQUAL(add(reassembler, fragment).lost, 1U);
    }
    CHECK_EQUAL(add(reassembler, overlap).lost, 4U);
    CHECK_EQUAL(reassembler.pending_fragments(), 0U);
  }
}

TEST_CASE(fragments_that_contradict_each_other) {
  Reassembler reassembler;
  std::vector<Octets> fragments = split(Octets(300), 104);
  const auto last_at = [](std::size_t at, std::size_t size) {
    return ipv4(Octets(size), {.protocol = protocol_esp, .identification = 9, .fragment = static_cast<std::uint16_t>(at / 8)});
  };
  add(reassembler, fragments[2]);
  Octets second_end = last_at(400, 8);
  CHECK_EQUAL(add(reassembler, second_end).lost, 2U);
  add(reassembler, fragments[1]);
  Octets early_end = last_at(8, 8);
  CHECK_EQUAL(add(reassembler, early_end).lost, 2U);
  Octets damaged = fragments[0];
  damaged[8] ^= 1;
  CHECK_EQUAL(add(reassembler, damaged).lost, 1U);
  CHECK_EQUAL(reassembler.pending_fragments(), 0U);
}

// RFC 8200 4.5: "that fragment must be discarded". The datagram goes on without it, else anybody who knows its identification could end it.
TEST_CASE(a_fragment_that_can_be_part_of_none_leaves_the_datagram_alone) {
  const Octets payload(300, 7);
  const auto part = [](const Octets& octets, std::uint16_t field) {
    return ipv4(octets, {.protocol = protocol_esp, .identification = 9, .fragment = field});
  };
  Reassembler reassembler;
  std::vector<Octets> fragments = split(payload, 104);
  CHECK_EQUAL(add(reassembler, fragments[0]).lost, 0U);
  for (Octets& bad : std::vector<Octets>{part(Octets(13), Ipv4::more_fragments), part(Octets(13), Ipv4::more_fragments | 13),
                                         part({}, Ipv4::more_fragments), part({}, Ipv4::more_fragments | 13), part({}, 13)}) {
    CHECK_EQUAL(add(reassembler, bad).lost, 1U);
    CHECK_EQUAL(reassembler.pending_fragments(), 1U);
  }
  CHECK_EQUAL(add(reassembler, fragments[1]).lost, 0U);
  CHECK(*add(reassembler, fragments[2]).datagram == ipv4(payload, {.protocol = protocol_esp, .identification = 9}));
  Octets alone = part(Octets(13), Ipv4::more_fragments);
  CHECK_EQUAL(add(reassembler, alone).lost, 1U);
  CHECK_EQUAL(reassembler.pending_fragments(), 0U);
}

TEST_CASE(the_table_is_bounded_in_number_and_time) {
  Reassembler reassembler;
  std::uint32_t lost = 0;
  for (std::uint16_t identification = 0; identification < 1000; ++identification) {
    std::vector<Octets> fragments = split(Octets(300), 104, identification);
    lost += add(reassembler, fragments[0], identification * 0.001).lost;
  }
  CHECK_EQUAL(reassembler.pending_fragments(), Reassembler::maximum_datagrams);
  CHECK_EQUAL(lost, 1000 - Reassembler::maximum_datagrams);
  CHECK_EQUAL(reassembler.expire(2.9), 0U);
  CHECK_EQUAL(reassembler.expire(2.9365), 1U);
  CHECK_EQUAL(reassembler.expire(4.0), Reassembler::maximum_datagrams - 1);
  CHECK_EQUAL(reassembler.expire(9.0), 0U);
}

TEST_CASE(one_congested_fragment_marks_the_datagram) {
  Reassembler reassembler;
  const Octets payload(100);
  std::vector<Octets> plain = split(payload, 56, 9, 2), marked = split(payload, 56, 9, 3);
  add(reassembler, plain[0]);
  CHECK_EQUAL((*add(reassembler, marked[1]).datagram)[1], 3);
}

namespace {

// An IPv6 packet with hop-by-hop options, whole or as the part of it that `field` says.
Octets ipv6_part(const Octets& payload, bool is_whole, std::uint16_t field = 0, std::uint32_t identification = 5, std::uint8_t ecn = 0) {
  const std::size_t size = ipv6_header_size + 8 + (is_whole ? 0 : 8);
  Octets packet(size + payload.size());
  store32(&packet[0], 6U << 28 | std::uint32_t{ecn} << 20);
  store16(&packet[4], static_cast<std::uint16_t>(packet.size() - ipv6_header_size));
  packet[6] = protocol_hop_by_hop;
  packet[7] = 64;
  packet[23] = 1;
  packet[39] = 2;
  const std::uint8_t options[8] = {is_whole ? protocol_esp : protocol_fragment, 0, 5, 2, 0, 0, 1, 0};
  std::copy(std::begin(options), std::end(options), &packet[40]);
  if (!is_whole) {
    packet[48] = protocol_esp;
    store16(&packet[50], field);
    store32(&packet[52], identification);
  }
  std::copy(payload.begin(), payload.end(), packet.begin() + static_cast<long>(size));
  return packet;
}

std::vector<Octets> split_ipv6(const Octets& payload, std::size_t size) {
  std::vector<Octets> fragments;
  for (std::size_t at = 0; at < payload.size(); at += size) {
    const std::size_t end = std::min(at + size, payload.size());
    const auto field = static_cast<std::uint16_t>(at | (end < payload.size() ? 1U : 0U));
    fragments.push_back(ipv6_part({payload.begin() + static_cast<long>(at), payload.begin() + static_cast<long>(end)}, false, field));
  }
  return fragments;
}

Reassembled add_ipv6(Reassembler& reassembler, Octets& fragment) {
  const Ipv6 ip = *Ipv6::parse(fragment.data(), fragment.size());
  const Ipv6Chain chain = *Ipv6Chain::walk(ip);
  CHECK(chain.is_fragment(ip));
  return reassembler.add(ip, chain, 0);
}

}  // namespace

TEST_CASE(fragments_of_ipv6_make_a_packet_without_a_fragment_header) {
  Random random(9);
  Reassembler reassembler;
  for (int turn = 0; turn < 300; ++turn) {
    const Octets payload = random.octets(9 + random.below(6000));
    std::vector<Octets> fragments = split_ipv6(payload, 8 * (1 + random.below(180)));
    if (fragments.size() < 2) continue;
    std::shuffle(fragments.begin(), fragments.end(), random.engine());
    for (std::size_t index = 0; index < fragments.size(); ++index) {
      const Reassembled result = add_ipv6(reassembler, fragments[index]);
      CHECK_EQUAL(result.lost, 0U);
      CHECK_EQUAL(result.datagram != nullptr, index + 1 == fragments.size());
      if (result.datagram) CHECK(*result.datagram == ipv6_part(payload, true));
    }
  }
  CHECK_EQUAL(reassembler.pending_fragments(), 0U);
}

// "Ping of death". Of IPv4 the header alone is refused (Ipv4::parse).
TEST_CASE(a_fragment_of_ipv6_that_ends_beyond_the_largest_packet_is_dropped_alone) {
  Reassembler reassembler;
  std::vector<Octets> fragments = split_ipv6(Octets(100), 56);
  CHECK_EQUAL(add_ipv6(reassembler, fragments[0]).lost, 0U);
  const auto part = [](std::size_t size, std::uint16_t field) { return ipv6_part(Octets(size), false, field); };
  for (Octets& beyond : std::vector<Octets>{part(16, 65528), part(8, 65520), part(8, 65521)}) {
    CHECK_EQUAL(add_ipv6(reassembler, beyond).lost, 1U);
  }
  CHECK_EQUAL(reassembler.pending_fragments(), 1U);
  CHECK(*add_ipv6(reassembler, fragments[1]).datagram == ipv6_part(Octets(100), true));
}

// RFC 8200 4.5: 65535 octets behind the first header, which counts for itself.
TEST_CASE(the_largest_packet_of_ipv6_is_put_together) {
  Random random(22);
  const Octets largest = random.octets(65535 - 8);
  Reassembler reassembler;
  std::vector<Octets> fragments = split_ipv6(largest, 1240);
  for (Octets& fragment : fragments) {
    const Reassembled result = add_ipv6(reassembler, fragment);
    CHECK_EQUAL(result.lost, 0U);
    CHECK_EQUAL(result.datagram != nullptr, &fragment == &fragments.back());
    if (result.datagram) CHECK_EQUAL(result.datagram->size(), ipv6_maximum_size);
    if (result.datagram) CHECK(*result.datagram == ipv6_part(largest, true));
  }
}

TEST_CASE(families_do_not_mix) {
  Reassembler reassembler;
  std::vector<Octets> four = split(Octets(100, 1), 56, 5), six = split_ipv6(Octets(100, 2), 56);
  CHECK(!add(reassembler, four[0]).datagram);
  CHECK(!add_ipv6(reassembler, six[1]).datagram);
  CHECK(add(reassembler, four[1]).datagram != nullptr);
  CHECK(*add_ipv6(reassembler, six[0]).datagram == ipv6_part(Octets(100, 2), true));
  Octets other = six[0];
  other.back() ^= 1;
  CHECK_EQUAL(add_ipv6(reassembler, six[0]).lost, 0U);
  CHECK_EQUAL(add_ipv6(reassembler, six[0]).lost, 1U);
  CHECK_EQUAL(add_ipv6(reassembler, other).lost, 2U);  // an overlap (RFC 5722)
}

TEST_CASE(one_congested_fragment_marks_a_packet_of_ipv6) {
  Reassembler reassembler;
  std::vector<Octets> fragments = split_ipv6(Octets(100), 56);
  fragments[0][1] = 0x20;
  fragments[1][1] = 0x30;
  add_ipv6(reassembler, fragments[0]);
  CHECK_EQUAL((*add_ipv6(reassembler, fragments[1]).datagram)[1], 0x30);
}

// RFC 3168 5.3: a mark that its sender did not ask for must not reach it, nor be lost.
TEST_CASE(a_congested_fragment_beside_one_without_ecn_drops_the_datagram) {
  for (const std::size_t first : {0U, 1U}) {
    for (const std::size_t congested : {0U, 1U}) {
      Reassembler reassembler;
      std::vector<Octets> four = split(Octets(100), 56), six = split_ipv6(Octets(100), 56);
      four[congested][1] = 3;
      write_header_checksum(four[congested].data());
      six[congested][1] = 0x30;
      CHECK_EQUAL(add(reassembler, four[first]).lost, 0U);
      CHECK_EQUAL(add_ipv6(reassembler, six[first]).lost, 0U);
      for (const Reassembled& result : {add(reassembler, four[1 - first]), add_ipv6(reassembler, six[1 - first])}) {
        CHECK(result.datagram == nullptr);
        CHECK_EQUAL(result.lost, 2U);
        CHECK(result.reason == Reason::congestion);
      }
      CHECK_EQUAL(reassembler.pending_fragments(), 0U);
    }
  }
}

// What has the same identification, and another source, destination, protocol or family, is another datagram (RFC 791 3.2, RFC 8200 4.5).
TEST_CASE(one_identification_of_several_senders_does_not_mix) {
  const auto part = [](const Header& of, std::uint8_t fill, bool is_last) {
    Header header = of;
    header.fragment = is_last ? 48 / 8 : Ipv4::more_fragments;
    return ipv4(Octets(48, fill), header);
  };
  const auto whole = [](const Header& of, std::uint8_t fill) { return ipv4(Octets(96, fill), of); };
  const Header one{.protocol = protocol_esp, .identification = 9};
  Header source = one, destination = one, protocol = one;
  source.source ^= 1;
  destination.destination ^= 1;
  protocol.protocol = protocol_ah;
  for (const Header& other : {source, destination, protocol}) {
    Reassembler reassembler;
    Octets first = part(one, 1, false), last = part(one, 1, true), other_first = part(other, 2, false), other_last = part(other, 2, true);
    CHECK(!add(reassembler, first).datagram);
    Reassembled result = add(reassembler, other_last);
    CHECK(!result.datagram && result.lost == 0);
    result = add(reassembler, last);
    CHECK(result.datagram != nullptr && *result.datagram == whole(one, 1));
    result = add(reassembler, other_first);
    CHECK(result.datagram != nullptr && *result.datagram == whole(other, 2));
    CHECK_EQUAL(reassembler.pending_fragments(), 0U);
  }

  // Octets of the addresses may be the same too.
  Reassembler reassembler;
  Header odd{.protocol = protocol_hop_by_hop, .identification = 9};
  Octets first = part(odd, 1, false), last = part(odd, 1, true);
  Octets payload(8 + 48, 2);
  std::fill(payload.begin(), payload.begin() + 8, std::uint8_t{0});
  payload[0] = protocol_esp;
  store16(&payload[2], 48 | 0);
  store32(&payload[4], 9);
  Octets six = ipv6(payload, {.next_header = protocol_fragment});
  std::fill(six.begin() + 8, six.begin() + 40, std::uint8_t{0});
  store32(&six[8], odd.source);
  store32(&six[24], odd.destination);
  const auto ip = Ipv6::parse(six.data(), six.size());
  CHECK(!add(reassembler, first).datagram);
  CHECK(!reassembler.add(*ip, *Ipv6Chain::walk(*ip), 0).datagram);
  CHECK(add(reassembler, last).datagram != nullptr);
  CHECK_EQUAL(reassembler.pending_fragments(), 1U);
}

TEST_CASE(a_datagram_for_which_there_is_no_memory_is_given_up) {
  Reassembler reassembler;
  const Octets payload(9000, 3);
  std::vector<Octets> fragments = split(payload, 3000);
  const auto lost_with = [&](std::size_t memory, Octets& fragment) {
    const Scarcity scarcity(memory);
    const Reassembled result = add(reassembler, fragment);
    CHECK(!result.datagram);
    CHECK(result.reason == Reason::fragment);
    return result.lost;
  };
  CHECK_EQUAL(lost_with(0, fragments[0]), 1U);  // none to begin one with
  CHECK_EQUAL(reassembler.pending_fragments(), 0U);
  CHECK_EQUAL(add(reassembler, fragments[0]).lost, 0U);
  CHECK_EQUAL(lost_with(4000, fragments[1]), 2U);  // none for what it becomes
  CHECK_EQUAL(reassembler.pending_fragments(), 0U);
  CHECK_EQUAL(add(reassembler, fragments[2]).lost, 0U);
  CHECK_EQUAL(add(reassembler, fragments[1]).lost, 0U);
  CHECK_EQUAL(lost_with(9000, fragments[0]), 3U);  // none for the whole, with its header
  CHECK_EQUAL(reassembler.pending_fragments(), 0U);
  add(reassembler, fragments[2]);
  add(reassembler, fragments[1]);
  CHECK(*add(reassembler, fragments[0]).datagram == ipv4(payload, {.protocol = protocol_esp, .identification = 9}));
}

// Who sends a few octets that belong to the end of a large datagram has us spend no more than that.
TEST_CASE(a_fragment_takes_the_memory_that_it_brings) {
  Reassembler reassembler;
  const Scarcity scarcity(4096);
  for (std::uint16_t identification = 0; identification < Reassembler::maximum_datagrams; ++identification) {
    Octets far = ipv4(Octets(8), {.protocol = protocol_esp, .identification = identification, .fragment = Ipv4::more_fragments | 8000});
    CHECK_EQUAL(add(reassembler, far).lost, 0U);
  }
  CHECK_EQUAL(reassembler.pending_fragments(), Reassembler::maximum_datagrams);
}

TEST_CASE(the_largest_datagram_is_put_together_of_the_smallest_fragments) {
  Random random(5);
  Reassembler reassembler;
  const Octets payload = random.octets(65535 - 20);
  std::vector<Octets> fragments = split(payload, 8);
  std::shuffle(fragments.begin(), fragments.end(), random.engine());
  for (std::size_t index = 0; index + 1 < fragments.size(); ++index) CHECK(!add(reassembler, fragments[index]).datagram);
  for (std::size_t turn = 0; turn < 20; ++turn) CHECK_EQUAL(add(reassembler, fragments[random.below(static_cast<std::uint32_t>(fragments.size() - 1))]).lost, 1U);
  CHECK_EQUAL(reassembler.pending_fragments(), fragments.size() - 1);
  CHECK(*add(reassembler, fragments.back()).datagram == ipv4(payload, {.protocol = protocol_esp, .identification = 9}));
}
