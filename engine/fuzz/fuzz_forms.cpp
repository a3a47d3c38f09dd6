// Any packet through an SA of any form and back, whole or damaged on the way. Octet 0 chooses the SA, octet 1 how the rest becomes a packet and
// how many changes follow: two octets each, a place and a value. What was not damaged must come back as it was, unless it is a dummy.
#include "../tests/forms.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

struct World {
  std::vector<std::shared_ptr<Sa>> sas = all_forms();
  SaSet set{sas};
  Esp esp;
};

Octets packet_of(int form, const Octets& octets) {
  const std::uint8_t first = octets.empty() ? std::uint8_t{0} : octets[0];
  if (form == 1) return ipv4(octets, {.protocol = first});
  if (form == 2) return ipv6(octets, {.next_header = first});
  return octets;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static World world;
  if (size < 2 || size > 4096) return 0;
  const std::size_t changes = data[1] / 4 % 8;
  if (size < 2 + 2 * changes) return 0;
  const std::uint8_t* change = data + 2;
  const Octets original = packet_of(data[1] % 4, Octets(change + 2 * changes, data + size));
  Buffer sealed(original);
  sealed.packet.sa = world.sas[data[0] % world.sas.size()].get();
  world.esp.encapsulate({&sealed.packet, 1});
  if (sealed.packet.reason != Reason::delivered) return 0;

  Octets octets = sealed.octets();
  for (std::size_t index = 0; index < changes; ++index) octets[change[2 * index] % octets.size()] ^= change[2 * index + 1];
  if (changes != 0 && octets[0] == 0x45) write_header_checksum(octets.data());
  const bool is_damaged = octets != sealed.octets();
  const std::unique_ptr<std::uint8_t[]> exact(new std::uint8_t[octets.size()]);
  std::copy(octets.begin(), octets.end(), exact.get());
  Packet packet;
  packet.data = exact.get();
  packet.length = static_cast<std::uint32_t>(octets.size());
  world.esp.decapsulate(world.set, {&packet, 1});
  if (packet.reason != Reason::delivered) {
    const bool needs_room = sealed.packet.sa->has_extended_sequence() && packet.reason == Reason::oversize;
    // In the header that stays outside.
    const bool may_have_hops_left = sealed.packet.sa->mode() == Mode::transport && packet.reason == Reason::malformed;
    if (!is_damaged && !needs_room && !may_have_hops_left && packet.reason != Reason::dummy) __builtin_trap();
    return 0;
  }
  if (packet.data < exact.get() || packet.data + packet.length > exact.get() + octets.size()) __builtin_trap();
  if (is_damaged || sealed.packet.sa->mode() == Mode::transport) return 0;  // where headers and checksums are written anew
  if (packet.length > original.size() || !std::equal(packet.data, packet.data + packet.length, original.begin())) __builtin_trap();
  return 0;
}
