// What stands around ESP and AH beside the header that our own members write.
#include "outer.hpp"

#include <memory>

#include "build.hpp"
#include "forms.hpp"
#include "harness.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

// The packet with an extension header behind its IPv6 header, the first octet of which comes to name what follows.
Octets with_extension(Octets packet, std::uint8_t protocol, Octets extension) {
  extension[0] = packet[6];
  packet[6] = protocol;
  store16(&packet[4], static_cast<std::uint16_t>(load16(&packet[4]) + extension.size()));
  packet.insert(packet.begin() + ipv6_header_size, extension.begin(), extension.end());
  return packet;
}

// With a fragment header that says "whole" (RFC 6946).
Octets atomic(const Octets& packet) { return with_extension(packet, protocol_fragment, {0, 0, 0, 0, 1, 2, 3, 4}); }

Octets ipv6_tcp(Octets segment, std::uint8_t source = 1) {
  const auto length = static_cast<std::uint32_t>(segment.size());
  store16(&segment[16], 0);
  store16(&segment[16],
          finish_sum(add_sum(segment.data(), length, pseudo_header_sum(ipv6({}, {.source = source}).data(), protocol_tcp, length))));
  return ipv6(segment, {.next_header = protocol_tcp, .source = source});
}

Octets sealed(Esp& esp, const std::shared_ptr<Sa>& sa, const Octets& packet) {
  Buffer buffer(packet);
  buffer.packet.sa = sa.get();
  esp.encapsulate({&buffer.packet, 1});
  CHECK(buffer.packet.reason == Reason::delivered);
  return buffer.octets();
}

struct Opened {
  Reason reason;
  Octets octets;
};

Opened opened(Esp& esp, const std::shared_ptr<Sa>& sa, const Octets& received) {
  Buffer buffer(received);
  esp.decapsulate(SaSet({sa}), {&buffer.packet, 1});
  return {buffer.packet.reason, buffer.octets()};
}

}  // namespace

// RFC 4302 A2: AH is computed without it. Nor does transport mode give it back, as putting together would not.
TEST_CASE(a_fragment_header_that_says_whole_is_passed_over_in_every_form) {
  Esp esp;
  Random random(51);
  std::size_t count = 0;
  for (const std::shared_ptr<Sa>& sa : all_forms()) {
    const Octets packet = ipv6_tcp(random.octets(100));
    const Octets octets = sealed(esp, sa, packet);
    if (family_of(octets[0]) != Family::ipv6) continue;
    ++count;
    const Opened result = opened(esp, sa, atomic(octets));
    CHECK(result.reason == Reason::delivered);
    CHECK(result.octets == packet);
  }
  CHECK(count > 10);
}

// RFC 4302 3.1.1, RFC 4303 3.1.1: a fragment header stands before AH and ESP. One that says nothing need not be there.
TEST_CASE(a_fragment_header_that_says_whole_does_not_go_into_transport_mode) {
  Esp esp;
  Random random(52);
  for (const std::shared_ptr<Sa>& sa : all_forms()) {
    if (sa->mode() != Mode::transport) continue;
    const Octets packet = ipv6_tcp(random.octets(100));
    const Octets octets = sealed(esp, sa, atomic(packet));
    CHECK_EQUAL(octets[6], sa->udp() ? protocol_udp : static_cast<std::uint8_t>(sa->protocol()));
    const Opened result = opened(esp, sa, octets);
    CHECK(result.reason == Reason::delivered && result.octets == packet);
  }
}

// RFC 3948 3.1.2. Others may leave the fragment header before UDP.
TEST_CASE(checksums_are_repaired_behind_a_fragment_header_that_says_whole) {
  Esp esp;
  Random random(53);
  const Keys keys(Cipher::null, Integrity::hmac_sha1_96, 0x71);
  SaParameters parameters = keys.parameters();
  parameters.mode = Mode::transport;
  parameters.udp = UdpPorts{4500, 4500};
  const auto sa = std::make_shared<Sa>(parameters);
  const Octets segment = random.octets(100);
  Octets translated = atomic(sealed(esp, sa, ipv6_tcp(segment)));
  translated[23] = 77;
  const Opened result = opened(esp, sa, translated);
  CHECK(result.reason == Reason::delivered);
  CHECK(result.octets == ipv6_tcp(segment, 77));
}

namespace {

Octets with_options(Octets packet, const Octets& options) {
  packet[0] = static_cast<std::uint8_t>(packet[0] + options.size() / 4);
  store16(&packet[2], static_cast<std::uint16_t>(load16(&packet[2]) + options.size()));
  packet.insert(packet.begin() + ipv4_header_size, options.begin(), options.end());
  write_header_checksum(packet.data());
  return packet;
}

}  // namespace

// RFC 8200 4.4, RFC 791 3.1: it is on its way to somebody else. (What AH has not covered it refuses in any case.)
TEST_CASE(what_has_hops_before_it_is_not_opened) {
  Esp esp;
  Random random(54);
  for (const std::shared_ptr<Sa>& sa : all_forms()) {
    const Reason with_foreign_header = sa->protocol() == Protocol::ah ? Reason::authentication : Reason::delivered;
    for (const Octets& packet : {ipv4(random.octets(50)), ipv6(random.octets(50), {.next_header = 253})}) {
      const auto reason_with = [&](const Octets& route, const Octets& options) {
        const Octets octets = sealed(esp, sa, packet);
        const bool is_ipv6 = family_of(octets[0]) == Family::ipv6;
        return opened(esp, sa, is_ipv6 ? with_extension(octets, protocol_routing, route) : with_options(octets, options)).reason;
      };
      CHECK(reason_with({0, 0, 9, 0, 0, 0, 0, 0}, {1, 0x83, 7, 8, 10, 9, 8, 7}) == with_foreign_header);
      CHECK(reason_with({0, 0, 9, 1, 0, 0, 0, 0}, {1, 0x83, 7, 4, 10, 9, 8, 7}) == Reason::malformed);
      CHECK(reason_with({0, 0, 9, 0, 0, 0, 0, 0}, {0x89, 7, 8, 10, 9, 8, 7, 0}) == with_foreign_header);
      CHECK(reason_with({0, 0, 9, 255, 0, 0, 0, 0}, {0x89, 7, 4, 10, 9, 8, 7, 0}) == Reason::malformed);
      CHECK(reason_with({0, 0, 9, 0, 0, 0, 0, 0}, {0, 0x83, 7, 4, 10, 9, 8, 7}) == with_foreign_header);  // behind the end of the list
    }
  }
}
