#include <algorithm>
#include <memory>

#include "build.hpp"
#include "harness.hpp"
#include "outer.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

TEST_CASE(an_ipv4_header_is_believed_only_if_it_fits) {
  Octets packet = ipv4(Octets(10));
  CHECK(Ipv4::parse(packet.data(), packet.size()).has_value());
  for (std::size_t length = 0; length < packet.size(); ++length) CHECK(!Ipv4::parse(packet.data(), length));
  for (int first = 0; first < 256; ++first) {
    packet[0] = static_cast<std::uint8_t>(first);
    const bool is_good = first >> 4 == 4 && (first & 15) >= 5 && (first & 15) * 4 <= 30;
    CHECK_EQUAL(Ipv4::parse(packet.data(), packet.size()).has_value(), is_good);
  }
  packet[0] = 0x45;
  for (std::uint32_t total = 0; total < 65536; ++total) {
    store16(&packet[2], static_cast<std::uint16_t>(total));
    CHECK_EQUAL(Ipv4::parse(packet.data(), packet.size()).has_value(), total >= 20 && total <= 30);
  }
}

TEST_CASE(a_fragment_ends_within_the_largest_datagram) {
  for (const std::size_t options : {0U, 40U}) {
    Octets packet = ipv4(Octets(1480), {.options = Octets(options, 1)});
    const std::size_t last = (ipv4_maximum_size - packet.size()) / 8;
    for (std::uint32_t field = 0; field < 65536; ++field) {
      store16(&packet[6], static_cast<std::uint16_t>(field));
      CHECK_EQUAL(Ipv4::parse(packet.data(), packet.size()).has_value(), (field & Ipv4::offset_mask) <= last);
    }
  }
  for (const std::size_t size : {3U, 4U}) {
    Octets packet = ipv4(Octets(size), {.fragment = 8189});
    CHECK_EQUAL(Ipv4::parse(packet.data(), packet.size()).has_value(), size == 3);
  }
}

TEST_CASE(a_link_header_ends_where_ip_begins) {
  Octets frame(64);
  const auto size = [&](std::size_t length) {
    const auto link = LinkHeader::parse(frame.data(), length);
    return link ? link->size : 0;
  };
  store16(&frame[12], 0x0800);
  CHECK_EQUAL(size(64), 14U);
  CHECK_EQUAL(size(14), 14U);
  CHECK_EQUAL(size(13), 0U);
  store16(&frame[12], 0x8100);
  store16(&frame[16], 0x0800);
  CHECK_EQUAL(size(64), 18U);
  CHECK_EQUAL(size(17), 0U);
  store16(&frame[12], 0x88a8);
  store16(&frame[16], 0x8100);
  store16(&frame[20], 0x0800);
  CHECK_EQUAL(size(64), 22U);
  store16(&frame[20], 0x8100);
  store16(&frame[24], 0x0800);
  CHECK_EQUAL(size(64), 0U);
  store16(&frame[12], 0x86dd);
  CHECK_EQUAL(size(64), 14U);
  CHECK(LinkHeader::parse(frame.data(), 64)->family == Family::ipv6);
  store16(&frame[12], 0x0806);
  CHECK_EQUAL(size(64), 0U);
}

TEST_CASE(an_ipv6_header_is_believed_only_if_it_fits) {
  Octets packet(50);
  packet[0] = 0x60;
  store16(&packet[4], 10);
  for (std::size_t length = 0; length <= 60; ++length) CHECK_EQUAL(Ipv6::parse(packet.data(), std::min<std::size_t>(length, 50)).has_value(), length >= 50);
  for (int first = 0; first < 256; ++first) {
    packet[0] = static_cast<std::uint8_t>(first);
    CHECK_EQUAL(Ipv6::parse(packet.data(), packet.size()).has_value(), first >> 4 == 6);
  }
}

TEST_CASE(a_walk_over_extension_headers_ends_inside_the_packet) {
  Random random(41);
  constexpr std::uint8_t kinds[] = {protocol_hop_by_hop, protocol_routing, protocol_fragment, protocol_destination_options, protocol_esp, protocol_none};
  std::size_t whole = 0;
  for (int turn = 0; turn < 20000; ++turn) {
    Octets packet(ipv6_header_size + random.below(64));
    for (std::size_t at = ipv6_header_size; at < packet.size(); ++at) packet[at] = random.below(2) ? kinds[random.below(6)] : std::uint8_t{0};
    packet[0] = 0x60;
    packet[6] = kinds[random.below(6)];
    store16(&packet[4], static_cast<std::uint16_t>(packet.size() - ipv6_header_size));
    const std::unique_ptr<std::uint8_t[]> exact(new std::uint8_t[packet.size()]);  // so that a sanitizer sees a look beyond
    std::copy(packet.begin(), packet.end(), exact.get());
    const auto chain = Ipv6Chain::walk(*Ipv6::parse(exact.get(), packet.size()));
    if (!chain) continue;
    ++whole;
    CHECK(chain->upper <= packet.size() && chain->named_at < chain->upper && packet[chain->named_at] == chain->protocol);
    CHECK(chain->unfragmentable <= chain->upper && chain->unfragmentable_named_at < chain->unfragmentable);
    CHECK(chain->fragment == 0 || (chain->fragment >= chain->unfragmentable && chain->fragment + 8 <= chain->upper));
    if (chain->fragment != 0) CHECK_EQUAL(packet[chain->fragment_named_at], protocol_fragment);
  }
  CHECK(whole > 1000);
}

// RFC 8200 4.1: headers may come more than once, and one that says "whole" (RFC 6946) hides none behind it.
TEST_CASE(a_fragment_header_behind_one_that_says_whole_counts) {
  for (const std::uint32_t field : {0x0001U, 0x0008U, 0xfff9U}) {
    for (const std::size_t atomic : {1U, 2U}) {
      Octets headers;
      for (std::size_t header = 0; header < atomic; ++header) headers.insert(headers.end(), {protocol_fragment, 0, 0, 0, 0, 0, 0, 1});
      headers.insert(headers.end(), {protocol_esp, 0, static_cast<std::uint8_t>(field >> 8), static_cast<std::uint8_t>(field), 0, 0, 0, 2});
      headers.resize(headers.size() + 16);
      Octets octets = ipv6(headers, {.next_header = protocol_fragment});
      const Ipv6 ip = *Ipv6::parse(octets.data(), octets.size());
      const Ipv6Chain chain = *Ipv6Chain::walk(ip);
      CHECK(chain.is_fragment(ip));
      CHECK_EQUAL(chain.fragment, ipv6_header_size + 8 * atomic);
      CHECK_EQUAL(chain.fragment_named_at, ipv6_header_size + 8 * (atomic - 1));
      Packet packet;
      packet.data = octets.data();
      packet.length = static_cast<std::uint32_t>(octets.size());
      CHECK(parse_outer(packet) == Reason::fragment);
    }
  }
}

// An IPv6 packet may have 40 octets more than 65535, and nearly all of them may be extension headers. What is written over the header must not
// be told from a number that went round.
TEST_CASE(an_outer_header_may_be_longer_than_65535_octets) {
  Octets octets(ipv6_maximum_size);
  octets[0] = 0x60;
  octets[6] = protocol_destination_options;
  store16(&octets[4], 0xffff);
  const std::size_t end = 65544;
  for (std::size_t at = ipv6_header_size, size; at < end; at += size) {
    size = std::min<std::size_t>(2048, end - at);
    octets[at] = at + size < end ? protocol_destination_options : protocol_esp;
    octets[at + 1] = static_cast<std::uint8_t>(size / 8 - 1);
  }
  Packet packet;
  packet.data = octets.data();
  packet.length = static_cast<std::uint32_t>(octets.size());
  CHECK(parse_outer(packet) == Reason::delivered);
  CHECK_EQUAL(packet.outer.header_length, end);
  CHECK(packet.data == octets.data() + end);
}
