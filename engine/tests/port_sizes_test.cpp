// A port between a TAP that takes the longest frames and a wire that does not (own_network.hpp). What is too long is fragmented after encryption.
#include <map>
#include <memory>

#include "own_network.hpp"
#include "port.hpp"
#include "reassembly.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

constexpr MacAddress token = {0x02, 0x47, 0x44, 0x4f, 0x49, 0x77};
constexpr std::size_t longest_of_a_tap = 65521;

struct Rig {
  explicit Rig(const std::shared_ptr<Sa>& sa) {
    run("ip link set out mtu 65521");
    port.set_fragments_after(true);
    port.set_sas({}, {{port.add_outbound({out.number()}), {sa}}});
    port.start();
  }

  [[nodiscard]] std::uint64_t count(const std::string& name) const {
    const NamedCounters counters = port.counters();
    return std::map<std::string, std::uint64_t>(counters.begin(), counters.end()).at(name);
  }

  Descriptor out = open_tap("out"), in = open_tap("in");
  Ear to_protect{"out"}, core{"core"}, kernel{"in"};
  Port port{{.wan = "wan", .inbound_taps = {in.number()}, .token = token, .wire_mtu = 1500, .receive = ReceiveMethod::tap}};
};

// The far end: puts together what comes, opens it, and puts together what was cut before.
class FarEnd {
 public:
  explicit FarEnd(const std::shared_ptr<Sa>& sa) : set_({sa}) {}

  // The next whole packet that was protected.
  Octets receive(const Ear& core) {
    was_cut_before = false;
    for (Octets frame = core.receive(); !frame.empty(); frame = core.receive()) {
      const Octets esp = whole(outside_, {frame.begin() + 14, frame.end()});
      if (esp.empty()) continue;
      Buffer buffer(esp);
      esp_.decapsulate(set_, {&buffer.packet, 1});
      CHECK(buffer.packet.reason == Reason::delivered);
      const Octets packet = whole(inside_, buffer.octets());
      if (!packet.empty()) return packet;
      was_cut_before = true;
    }
    return {};
  }

  bool was_cut_before = false;  // of what was received last

 private:
  static Octets whole(Reassembler& reassembler, Octets octets) {
    const std::optional<Ipv4> ip = Ipv4::parse(octets.data(), octets.size());
    CHECK(ip.has_value());
    if (!ip || !ip->is_fragment()) return octets;
    const Reassembled result = reassembler.add(*ip, 0);
    return result.datagram ? *result.datagram : Octets{};
  }

  SaSet set_;
  Esp esp_;
  Reassembler outside_, inside_;
};

std::vector<std::shared_ptr<Sa>> sas_of(Mode mode) {
  std::vector<std::shared_ptr<Sa>> sas;
  for (const Protocol protocol : {Protocol::esp, Protocol::ah}) {
    const Keys keys = protocol == Protocol::ah ? Keys(Cipher::null, Integrity::hmac_sha1_96, 0x73) : Keys(Cipher::aes_128_gcm, Integrity::none, 0x74);
    SaParameters parameters = keys.parameters();
    parameters.protocol = protocol;
    parameters.mode = mode;
    sas.push_back(std::make_shared<Sa>(parameters));
  }
  return sas;
}

}  // namespace

// What would be longer than a packet can be must be cut before its encryption, whatever the settings say.
TEST_CASE(what_cannot_be_encrypted_whole_is_cut_before) {
  if (!has_own_network()) return;
  Random random(61);
  for (const std::shared_ptr<Sa>& sa : sas_of(Mode::tunnel)) {
    Rig rig(sa);
    FarEnd far(sa);
    const std::size_t longest = sa->inner_mtu(ipv4_maximum_size);
    CHECK(longest + 1 < longest_of_a_tap);
    for (const std::size_t length : {std::size_t{1500}, longest, longest + 1, longest_of_a_tap}) {
      const Octets packet = ipv4(random.octets(length - ipv4_header_size));
      rig.to_protect.send(frame_around(packet));
      CHECK(far.receive(rig.core) == packet);
      CHECK_EQUAL(far.was_cut_before, length > longest);
    }
    rig.port.stop();
    CHECK_EQUAL(rig.count("outbound_too_big"), 0U);
  }
}

// In transport mode no fragment is protected (RFC 4303 3.3.4), so its sender is told to send less, though it has not set DF.
TEST_CASE(what_transport_mode_cannot_encrypt_is_answered) {
  if (!has_own_network()) return;
  Random random(62);
  for (const std::shared_ptr<Sa>& sa : sas_of(Mode::transport)) {
    Rig rig(sa);
    FarEnd far(sa);
    const std::size_t longest = sa->inner_mtu(ipv4_maximum_size);
    CHECK(longest + 1 < longest_of_a_tap);
    const Octets fits = ipv4(random.octets(longest - ipv4_header_size));
    rig.to_protect.send(frame_around(fits));
    CHECK(far.receive(rig.core) == fits);
    rig.to_protect.send(frame_around(ipv4(random.octets(longest + 1 - ipv4_header_size))));
    const Octets answer = rig.kernel.receive();
    CHECK(answer.size() > 42 && load16(&answer[34]) == 0x0304);
    CHECK(answer.size() > 42 && load16(&answer[40]) == sa->inner_mtu(1500));
    rig.port.stop();
    CHECK_EQUAL(rig.count("outbound_too_big"), 1U);
  }
}
