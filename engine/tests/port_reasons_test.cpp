// Each packet that a port refuses is counted once, by the reason that it has.
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <functional>
#include <memory>

#include "memory.hpp"
#include "port_rig.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

Octets with_ethertype(Octets frame, std::uint16_t ethertype) {
  store16(&frame[12], ethertype);
  return frame;
}

// Whether exactly one packet more has this reason by now, and none more another one.
class Reasons {
 public:
  Reasons(const Port& port, std::string way) : port_(port), way_(std::move(way)) {}

  void expect(const std::string& reason, const std::function<void()>& send, std::uint64_t packets = 1) {
    const std::uint64_t all = sum(port_.counters(), way_), before = sum(port_.counters(), way_ + reason);
    send();
    CHECK(wait_until([&] { return sum(port_.counters(), way_) >= all + packets; }));
    CHECK_EQUAL(sum(port_.counters(), way_), all + packets);
    const std::uint64_t found = sum(port_.counters(), way_ + reason) - before;
    if (found != packets) fail(__FILE__, __LINE__, way_ + reason + ": " + std::to_string(found) + " and not " + std::to_string(packets));
  }

 private:
  const Port& port_;
  std::string way_;
};

}  // namespace

TEST_CASE(each_frame_that_does_not_leave_has_its_reason) {
  if (!has_own_network()) return;
  Rig rig;
  run("ip link set out mtu 9000");
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0xa8);
  const auto use = [&](const std::function<void(SaParameters&)>& change) {
    SaParameters parameters = keys.parameters();
    change(parameters);
    rig.port.set_sas({}, {{rig.queue, {std::make_shared<Sa>(parameters)}}});
  };
  const auto one = [&rig](const Octets& frame) { return [&rig, frame] { rig.to_protect.send(frame); }; };
  const Octets good = frame_around(ipv4(Octets(100)));
  Reasons reasons(rig.port, "outbound_");
  rig.port.start();
  reasons.expect("no_sa", one(good));
  use([](SaParameters&) {});
  reasons.expect("delivered", one(good));
  reasons.expect("not_ip", one(with_ethertype(good, 0x0806)));
  reasons.expect("malformed", one(with_ethertype(good, 0x86dd)));
  Octets longer = good;
  store16(&longer[16], 200);  // than the frame is
  reasons.expect("malformed", one(longer));
  reasons.expect("too_big", one(frame_around(ipv4(Octets(1480), {.fragment = Ipv4::dont_fragment}))));
  use([](SaParameters& parameters) { parameters.sender_id.reset(); });
  reasons.expect("no_sender_id", one(good));
  use([](SaParameters& parameters) {
    parameters.sender_id = 2;
    parameters.last_sequence = (std::uint64_t{1} << 40) - 2;
  });
  reasons.expect("delivered", one(good));
  reasons.expect("sequence_exhausted", one(good));
  use([](SaParameters& parameters) {
    parameters.spi = 0x1001;
    parameters.limits.hard_packets = 1;
  });
  reasons.expect("delivered", one(good));
  reasons.expect("lifetime", one(good));
  use([](SaParameters& parameters) {
    parameters.spi = 0x1002;
    parameters.mode = Mode::transport;
  });
  reasons.expect("fragment", one(frame_around(ipv4(Octets(96), {.fragment = Ipv4::more_fragments}))));
  largest_allocation = 1 << 18;
  rig.port.set_wire_mtu(9000);  // for which there is no memory: the wire keeps the buffers that it has
  reasons.expect("oversize", one(frame_around(ipv4(Octets(5000)))));
  largest_allocation = unlimited;
  rig.port.stop();
  CHECK_EQUAL(rig.count("outbound_"), sum(rig.port.traffic(), "outbound_packets"));
}

namespace {

// What the SAs of the test below have in common, and a sender for each, as on another machine.
struct Incoming {
  Keys null{Cipher::null, Integrity::hmac_sha1_96, 0xa9}, cbc{Cipher::aes_128_cbc, Integrity::hmac_sha1_96, 0xaa}, gcm{Cipher::aes_128_gcm, Integrity::none, 0xab};
  std::vector<std::shared_ptr<Sa>> sas;
  Esp esp;

  std::shared_ptr<Sa> make(const Keys& keys, std::uint32_t spi, const std::function<void(SaParameters&)>& change = [](SaParameters&) {}) {
    SaParameters parameters = keys.parameters(spi);
    parameters.is_apart = true;
    change(parameters);
    return std::make_shared<Sa>(parameters);
  }
  // ESP with what an honest sender would not write: the header, the payload and how it ends are given.
  [[nodiscard]] Octets authentic(std::uint32_t spi, const Octets& payload) const {
    Octets octets(8);
    store32(&octets[0], spi);
    store32(&octets[4], 1);
    octets.insert(octets.end(), payload.begin(), payload.end());
    std::uint8_t icv[20];
    unsigned length = sizeof icv;
    HMAC(EVP_sha1(), null.authentication.data(), static_cast<int>(null.authentication.size()), octets.data(), octets.size(), icv, &length);
    octets.insert(octets.end(), icv, icv + 12);
    return frame_around(ipv4(octets, {.protocol = protocol_esp}));
  }
  Octets seal(Sa& sa, const Octets& packet) {
    Buffer buffer(packet);
    buffer.packet.sa = &sa;
    esp.encapsulate({&buffer.packet, 1});
    CHECK(buffer.packet.reason == Reason::delivered);
    return frame_around(buffer.octets());
  }
};

}  // namespace

TEST_CASE(each_frame_that_does_not_come_in_has_its_reason) {
  if (!has_own_network()) return;
  Rig rig;
  Incoming way;
  constexpr std::uint32_t null_spi = 0x1000, gcm_spi = 0x1001, timed_spi = 0x1002, ended_spi = 0x1003;
  const auto timed = [](std::int64_t ahead) {
    return [ahead](SaParameters& parameters) {
      const std::int64_t now = boot_milliseconds();
      parameters.sender_id = 1;
      parameters.replay_window = 64;
      parameters.time = TimeWindow{5, 10, now - 1'000'000 - ahead, now - 1'000'000};
    };
  };
  const auto windowed = [](SaParameters& parameters) { parameters.replay_window = 64; };
  const auto gcm = way.make(way.gcm, gcm_spi, windowed);
  rig.port.set_sas({way.make(way.null, null_spi), gcm, way.make(way.cbc, timed_spi, timed(0)),
                    way.make(way.gcm, ended_spi, [](SaParameters& parameters) { parameters.limits.hard_deadline = 0; })},
                   {});
  rig.port.start();
  Reasons reasons(rig.port, "inbound_");
  const auto one = [&rig](const Octets& frame) { return [&rig, frame] { rig.kernel.send(frame); }; };
  const auto sender = way.make(way.gcm, gcm_spi, windowed);
  const Octets inner = ipv4(Octets(40)), good = way.seal(*sender, inner);
  reasons.expect("delivered", one(good));
  reasons.expect("replayed", one(good));
  reasons.expect("not_ip", one(with_ethertype(good, 0x0806)));
  reasons.expect("malformed", one(Octets(good.begin(), good.end() - 1)));
  Octets other = good;
  other[14 + 8] ^= 1;  // TTL
  reasons.expect("header_checksum", one(other));
  reasons.expect("fragment", one([&] {
                   Octets fragment = frame_around(ipv4(Octets(64), {.protocol = protocol_esp, .fragment = Ipv4::more_fragments}));
                   fragment[14 + 8] ^= 1;
                   return fragment;
                 }()));
  reasons.expect("fragment", one(frame_around(ipv4(Octets(64), {.protocol = protocol_udp, .fragment = Ipv4::more_fragments}))));  // nobody knows the others
  reasons.expect("not_esp", one(frame_around(inner)));
  const auto in_udp = [](const Octets& content) {
    Octets payload(8);
    store16(&payload[0], 4500);
    store16(&payload[2], 4500);
    store16(&payload[4], static_cast<std::uint16_t>(8 + content.size()));
    payload.insert(payload.end(), content.begin(), content.end());
    return frame_around(ipv4(payload, {.protocol = protocol_udp}));
  };
  reasons.expect("keepalive", one(in_udp({0xff})));
  reasons.expect("non_esp_marker", one(in_udp(Octets(40))));
  reasons.expect("unknown_spi", one(way.seal(*way.make(way.gcm, 0x2000), inner)));
  reasons.expect("esp_length", one(frame_around(ipv4(Octets(good.begin() + 34, good.end() - 1), {.protocol = protocol_esp}))));
  other = way.seal(*sender, inner);
  other.back() ^= 1;
  reasons.expect("authentication", one(other));
  reasons.expect("lifetime", one(way.seal(*way.make(way.gcm, ended_spi), inner)));

  // Verified, and not what a member may send.
  Octets payload = inner;
  payload.insert(payload.end(), {1, 3, 2, protocol_ipip});
  reasons.expect("padding", one(way.authentic(null_spi, payload)));
  payload.assign({1, 2, 2, protocol_none});
  reasons.expect("dummy", one(way.authentic(null_spi, payload)));
  payload.assign({1, 2, 2, protocol_udp});
  reasons.expect("next_header", one(way.authentic(null_spi, payload)));
  payload.assign({1, 2, 2, protocol_ipip});
  reasons.expect("inner_malformed", one(way.authentic(null_spi, payload)));
  payload = ipv4(Octets(40), {.source = 0x0a030303});
  payload.insert(payload.end(), {1, 2, 2, protocol_ipip});
  reasons.expect("address_mismatch", one(way.authentic(null_spi, payload)));
  other = way.seal(*sender, inner);
  other[15] |= 3;  // congestion experienced, and the packet inside is of no one who knows of that
  write_header_checksum(&other[14]);
  reasons.expect("congestion", one(other));

  // By its time: a clock that is a minute slow, one that is fast, and an IV that no member made.
  reasons.expect("delivered", one(way.seal(*way.make(way.cbc, timed_spi, timed(0)), inner)));
  reasons.expect("too_old", one(way.seal(*way.make(way.cbc, timed_spi, timed(-60'000)), inner)));
  reasons.expect("too_new", one(way.seal(*way.make(way.cbc, timed_spi, timed(60'000)), inner)));
  const auto stranger = way.make(way.cbc, timed_spi, [](SaParameters& parameters) { parameters.last_sequence = 1'000'000 / 10; });
  reasons.expect("no_sender_id", one(way.seal(*stranger, inner)));

  for (std::uint32_t number = 0; gcm->accept({1, 0x80000000U + number, 0}, 0) == Reason::delivered; ++number) {
  }
  reasons.expect("too_many_senders", one(way.seal(*way.make(way.gcm, gcm_spi, [](SaParameters& parameters) { parameters.sender_id = 2; }), inner)));
  rig.port.stop();
  CHECK_EQUAL(rig.count("inbound_"), sum(rig.port.traffic(), "inbound_frames"));
}
