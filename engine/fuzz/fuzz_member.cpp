// What a member may send that holds the keys: any octets as ESP or AH whose ICV verifies, to an SA of any kind. What comes through must be a
// packet, inside the buffer.
//
// The packets are made in transport mode, which protects what it is given and names its protocol, and opened by an SA of the same keys that
// expects something else. The input: octet 0 chooses the SA, octet 1 the protocol, bits of octet 2 the rest.
#include <array>
#include <memory>

#include "whole.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

constexpr std::uint32_t first_spi = 0x1000;

struct Kind {
  Cipher cipher;
  Integrity integrity;
  Protocol protocol;
  Mode mode;
  Family endpoints;
  bool is_in_udp, is_extended;
};

constexpr std::array<Kind, 12> kinds = {{
    {Cipher::null, Integrity::hmac_sha1_96, Protocol::esp, Mode::tunnel, Family::none, false, false},
    {Cipher::aes_128_gcm, Integrity::none, Protocol::esp, Mode::tunnel, Family::none, false, false},
    {Cipher::aes_128_cbc, Integrity::hmac_sha2_256_128, Protocol::esp, Mode::tunnel, Family::none, true, false},
    {Cipher::null, Integrity::hmac_sha1_96, Protocol::esp, Mode::tunnel, Family::ipv4, false, false},
    {Cipher::aes_128_gcm, Integrity::none, Protocol::esp, Mode::tunnel, Family::ipv6, false, true},
    {Cipher::aes_128_cbc, Integrity::hmac_sha1_96, Protocol::esp, Mode::tunnel, Family::ipv4, true, true},
    {Cipher::null, Integrity::hmac_md5_96, Protocol::esp, Mode::transport, Family::none, false, false},
    {Cipher::aes_128_ctr, Integrity::hmac_sha1_96, Protocol::esp, Mode::transport, Family::none, true, true},
    {Cipher::null, Integrity::hmac_sha1_96, Protocol::ah, Mode::tunnel, Family::none, false, false},
    {Cipher::null, Integrity::hmac_md5_96, Protocol::ah, Mode::tunnel, Family::ipv6, false, true},
    {Cipher::null, Integrity::hmac_sha2_256_128, Protocol::ah, Mode::transport, Family::none, false, false},
    {Cipher::null, Integrity::hmac_md5_96, Protocol::ah, Mode::transport, Family::none, false, true},
}};

// A receiver and, of the same keys, who sends to it.
struct World {
  std::vector<std::shared_ptr<Sa>> receivers, senders;
  SaSet set;
  Esp esp;

  World() {
    for (const Kind& kind : kinds) {
      const Keys keys(kind.cipher, kind.integrity);
      SaParameters parameters = keys.parameters(first_spi + static_cast<std::uint32_t>(receivers.size()));
      parameters.protocol = kind.protocol;
      parameters.extended_sequence = kind.is_extended;
      if (kind.is_extended) parameters.sender_id_bits = 0;
      if (kind.is_extended && parameters.sender_id) parameters.sender_id = 0;
      parameters.replay_window = kind.is_extended ? 64 : 0;
      if (kind.is_in_udp) parameters.udp = UdpPorts{4500, 4500};
      SaParameters sender = parameters;
      sender.mode = Mode::transport;
      senders.push_back(std::make_shared<Sa>(sender));
      parameters.mode = kind.mode;
      if (kind.endpoints != Family::none) parameters.endpoints = Endpoints{kind.endpoints, {0x20}, {0x20}};
      receivers.push_back(std::make_shared<Sa>(parameters));
    }
    set = SaSet(receivers);
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static World world;
  if (size < 3 || size > 4096) return 0;
  const std::uint8_t protocol = data[1], form = data[2];
  Octets octets(data + 3, data + size);
  if ((form & 3) == 0) octets = ipv4(octets, {.tos = static_cast<std::uint8_t>(form >> 2 & 3), .protocol = protocol});
  if ((form & 3) == 1) octets = ipv6(octets, protocol);
  Buffer sealed(octets);
  sealed.packet.sa = world.senders[data[0] % kinds.size()].get();
  world.esp.encapsulate({&sealed.packet, 1}, 50'000);
  if (sealed.packet.reason != Reason::delivered) return 0;

  constexpr std::size_t room = 4;  // which extended sequence numbers want (Operation)
  const std::unique_ptr<std::uint8_t[]> exact(new std::uint8_t[room + sealed.packet.length]);
  std::copy_n(sealed.packet.data, sealed.packet.length, exact.get() + room);
  Packet packet;
  packet.data = exact.get() + room;
  packet.length = sealed.packet.length;
  packet.headroom = room;
  if ((form & 64) != 0) exact[room + form % packet.length] ^= 0x80;
  world.esp.decapsulate(world.set, {&packet, 1}, 50'000);
  if (packet.reason == Reason::delivered && !is_whole(packet, {exact.get(), room + sealed.packet.length})) __builtin_trap();
  return 0;
}
