#include "fragment.hpp"

#include "build.hpp"
#include "harness.hpp"
#include "reassembly.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

Packet as_packet(Octets& octets) {
  Packet packet;
  packet.data = octets.data();
  packet.length = static_cast<std::uint32_t>(octets.size());
  return packet;
}

std::vector<Octets> fragments_of(Octets packet, std::uint32_t mtu) {
  Fragmenter fragmenter(as_packet(packet), mtu, 0x01020304);
  std::vector<Octets> result;
  for (;;) {
    Octets out(mtu);
    const std::uint32_t length = fragmenter.next(out);
    if (length == 0) return result;
    out.resize(length);
    result.push_back(out);
  }
}

}  // namespace

TEST_CASE(ipv4_fragments_are_put_together_to_what_they_were) {
  Random random(1);
  for (const std::uint32_t size : {1U, 8U, 1481U, 2953U, 20000U, 65515U}) {
    for (const std::uint16_t df : {std::uint16_t{0}, Ipv4::dont_fragment}) {
      Octets packet = ipv4(random.octets(size), {.tos = 7, .protocol = protocol_esp, .identification = 99, .fragment = df});
      Reassembler reassembler;
      std::unique_ptr<Octets> whole;
      for (Octets& fragment : fragments_of(packet, 1500)) {
        const std::optional<Ipv4> ip = Ipv4::parse(fragment.data(), fragment.size());
        CHECK(ip.has_value());
        CHECK(ip->total_length() <= 1500);
        CHECK_EQUAL(ip->has_dont_fragment(), df != 0);
        CHECK(is_checksum_right(ip->data(), ip->header_length()));
        if (!ip->is_fragment()) {
          whole = std::make_unique<Octets>(fragment);
          continue;
        }
        Reassembled result = reassembler.add(*ip, {});
        CHECK_EQUAL(result.lost, 0U);
        if (result.datagram) whole = std::make_unique<Octets>(result.datagram->begin(), result.datagram->end());
      }
      CHECK(whole != nullptr);
      const auto payload = [](const Octets& octets) { return Octets(octets.begin() + 20, octets.end()); };
      if (whole) CHECK(payload(*whole) == payload(packet));
    }
  }
}

// As transport mode leaves them outside. Only the first part has those that are not to be copied (RFC 791 3.1).
TEST_CASE(fragments_of_a_packet_with_options_repeat_those_that_are_to_be_copied) {
  Random random(4);
  const Octets options = {0x94, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0};  // router alert is copied, record route is not
  const Octets later = {0x94, 4, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0};
  const Octets packet = ipv4(random.octets(3000), {.protocol = protocol_esp, .identification = 99, .options = options});
  for (const std::uint32_t mtu : {68U, 576U, 1500U}) {
    Reassembler reassembler;
    std::unique_ptr<Octets> whole;
    for (Octets& part : fragments_of(packet, mtu)) {
      CHECK(part.size() <= mtu);
      const Ipv4 ip = *Ipv4::parse(part.data(), part.size());
      const Octets& expected = (ip.fragment_field() & Ipv4::offset_mask) == 0 ? options : later;
      CHECK(ip.header_length() == 32 && std::equal(expected.begin(), expected.end(), part.begin() + 20));
      CHECK(is_checksum_right(ip.data(), ip.header_length()));
      Reassembled result = reassembler.add(ip, 0);
      if (result.datagram) whole = std::move(result.datagram);
    }
    CHECK(whole != nullptr && *whole == packet);
  }
}

TEST_CASE(ipv6_fragments_carry_the_header_that_says_so) {
  Random random(2);
  const Octets payload = random.octets(3000);
  const std::vector<Octets> parts = fragments_of(ipv6(payload, {.next_header = protocol_esp}), 1280);
  CHECK_EQUAL(parts.size(), 3U);
  Octets joined;
  for (const Octets& part : parts) {
    CHECK_EQUAL(load16(&part[4]), part.size() - 40);
    CHECK_EQUAL(part[6], protocol_fragment);
    CHECK_EQUAL(part[40], protocol_esp);
    CHECK_EQUAL(load16(&part[42]) & 0xfff8U, joined.size());
    CHECK_EQUAL((load16(&part[42]) & 1U) != 0, &part != &parts.back());
    CHECK_EQUAL(load32(&part[44]), 0x01020304U);
    joined.insert(joined.end(), part.begin() + 48, part.end());
  }
  CHECK(joined == payload);
}

// As transport mode leaves them outside (RFC 8200 4.5): routers on the way read hop-by-hop options in each part.
TEST_CASE(what_routers_read_stands_before_the_fragment_header) {
  Random random(3);
  Octets payload = {protocol_esp, 0, 5, 2, 0, 0, 1, 0};
  const Octets protected_octets = random.octets(2000);
  payload.insert(payload.end(), protected_octets.begin(), protected_octets.end());
  const Octets packet = ipv6(payload, {.next_header = protocol_hop_by_hop});
  Reassembler reassembler;
  std::vector<Octets> parts = fragments_of(packet, 1280);
  CHECK_EQUAL(parts.size(), 2U);
  for (Octets& part : parts) {
    CHECK_EQUAL(load16(&part[4]), part.size() - 40);
    CHECK_EQUAL(part[6], protocol_hop_by_hop);
    CHECK_EQUAL(part[40], protocol_fragment);
    CHECK_EQUAL(part[48], protocol_esp);
    const Ipv6 ip = *Ipv6::parse(part.data(), part.size());
    const Reassembled result = reassembler.add(ip, *Ipv6Chain::walk(ip), 0);
    CHECK_EQUAL(result.datagram != nullptr, &part == &parts.back());
    if (result.datagram) CHECK(*result.datagram == packet);
  }
}

TEST_CASE(what_cannot_be_cut_has_no_fragments) {
  CHECK_EQUAL(fragments_of({}, 1500).size(), 0U);
  CHECK_EQUAL(fragments_of({0x10, 0, 0}, 1500).size(), 0U);
  CHECK_EQUAL(fragments_of(ipv4(Octets(3000), {.fragment = Ipv4::more_fragments}), 1500).size(), 0U);
  CHECK_EQUAL(fragments_of(ipv4(Octets(3000), {.options = Octets(40, 1)}), 67).size(), 0U);  // no room for 8 octets
  CHECK_EQUAL(fragments_of(ipv6({}), 1500).size(), 0U);
  for (const std::uint8_t more : {0, 1}) {  // a part of a packet, and a whole one that says so (RFC 6946)
    Octets content(3000);
    content[0] = protocol_udp;
    content[3] = more;
    CHECK_EQUAL(fragments_of(ipv6(content, {.next_header = protocol_fragment}), 1500).empty(), more == 1);
  }
}
