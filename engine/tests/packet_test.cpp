#include "build.hpp"
#include "harness.hpp"

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
