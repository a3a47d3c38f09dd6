#include "icmp.hpp"

#include "build.hpp"
#include "harness.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

TEST_CASE(fragmentation_needed_says_how_much_fits) {
  for (const std::size_t size : {0U, 8U, 100U, 548U, 1480U}) {
    Octets original = ipv4(Octets(size, 0xab), {.protocol = protocol_udp, .fragment = Ipv4::dont_fragment});
    std::array<std::uint8_t, icmp_maximum_size> message;
    const Ipv4 ip = *Ipv4::parse(original.data(), original.size());
    const std::uint32_t length = write_fragmentation_needed(ip, 1434, message);
    const Ipv4 answer = *Ipv4::parse(message.data(), length);
    CHECK_EQUAL(answer.total_length(), length);
    CHECK(is_checksum_right(message.data(), 20));
    CHECK_EQUAL(answer.source(), ip.destination());
    CHECK_EQUAL(answer.destination(), ip.source());
    CHECK_EQUAL(answer.protocol(), protocol_icmp);
    CHECK(is_checksum_right(answer.payload(), answer.payload_length()));
    CHECK_EQUAL(load16(answer.payload()), 0x0304);
    CHECK_EQUAL(load16(answer.payload() + 6), 1434);
    CHECK(std::equal(answer.payload() + 8, answer.payload() + answer.payload_length(), original.begin()));
    CHECK_EQUAL(answer.payload_length(), std::min<std::size_t>(original.size(), 548) + 8);
  }
}

TEST_CASE(what_gets_no_icmp_error) {
  const auto may = [](const Header& header, const Octets& payload = Octets(8)) {
    Octets packet = ipv4(payload, header);
    return may_answer_with_icmp(*Ipv4::parse(packet.data(), packet.size()));
  };
  CHECK(may({}));
  CHECK(!may({.destination = 0xe0000005}));
  CHECK(!may({.destination = 0xffffffff}));
  CHECK(!may({.source = 0}));
  CHECK(!may({.source = 0x7f000001}));
  CHECK(!may({.fragment = 5}));
  CHECK(may({.fragment = Ipv4::more_fragments}));
  CHECK(may({.protocol = protocol_icmp}, Octets{8, 0, 0, 0}));
  CHECK(!may({.protocol = protocol_icmp}, Octets{3, 4, 0, 0}));
  CHECK(!may({.protocol = protocol_icmp}, Octets{}));
}

TEST_CASE(packet_too_big_quotes_what_was_too_big) {
  std::array<std::uint8_t, icmpv6_maximum_size> out;
  for (const std::size_t size : {0U, 100U, 1400U, 9000U}) {
    Octets packet = ipv6(Octets(size, 7), {.next_header = protocol_udp});
    const Ipv6 original = *Ipv6::parse(packet.data(), packet.size());
    CHECK(may_answer_with_icmp(original));
    const std::uint32_t length = write_packet_too_big(original, 1422, out);
    CHECK_EQUAL(length, std::min<std::size_t>(packet.size() + 48, 1280));
    const auto answer = Ipv6::parse(out.data(), length);
    CHECK(answer && answer->total_length() == length && answer->next_header() == protocol_icmpv6);
    CHECK(std::memcmp(answer->source(), original.destination(), 16) == 0 && std::memcmp(answer->destination(), original.source(), 16) == 0);
    CHECK_EQUAL(load32(&out[40]) >> 16, 0x0200U);
    CHECK_EQUAL(load32(&out[44]), 1422U);
    CHECK(std::memcmp(&out[48], packet.data(), length - 48) == 0);
    CHECK_EQUAL(finish_sum(add_sum(&out[40], length - 40, pseudo_header_sum(out.data(), protocol_icmpv6, length - 40))), 0);
  }
}

TEST_CASE(icmpv6_errors_are_not_sent_about_everything) {
  const auto may_answer = [](Octets packet) { return may_answer_with_icmp(*Ipv6::parse(packet.data(), packet.size())); };
  const auto icmp = [&](std::uint8_t type) { return may_answer(ipv6({type, 0, 0, 0, 0, 0, 0, 0}, {.next_header = protocol_icmpv6})); };
  CHECK(icmp(128) && icmp(129) && icmp(135));
  CHECK(!icmp(1) && !icmp(2) && !icmp(127) && !icmp(137));
  CHECK(!may_answer(ipv6({}, {.next_header = protocol_icmpv6})));
  Octets packet = ipv6(Octets(10), {.next_header = protocol_udp});
  Octets multicast = packet;
  multicast[24] = 0xff;
  CHECK(!may_answer(multicast));
  Octets unspecified = packet;
  std::fill(unspecified.begin() + 8, unspecified.begin() + 24, std::uint8_t{0});
  CHECK(!may_answer(unspecified));
  const auto fragment = [&](std::uint8_t offset) { return may_answer(ipv6({protocol_udp, 0, 0, offset, 0, 0, 0, 1}, {.next_header = protocol_fragment})); };
  CHECK(fragment(1) && !fragment(8));
  const Octets later = {protocol_fragment, 0, 0, 0, 0, 0, 0, 1, protocol_udp, 0, 0, 8, 0, 0, 0, 1};
  CHECK(!may_answer(ipv6(later, {.next_header = protocol_fragment})));  // behind a header that says "whole" (RFC 6946)
}
