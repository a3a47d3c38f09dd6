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
