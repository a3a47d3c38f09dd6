// What the wire sends: any octets to decapsulation. Octet 0 chooses whether they are taken as they are (either family, UDP, AH), or put into an
// IPv4 packet or an ESP packet with an ICV that verifies, so that the stages behind each check are reached. What comes through must be a packet
// inside the buffer.
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "whole.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

constexpr std::uint32_t null_spi = 0x1000, cbc_spi = 0x1001, gcm_spi = 0x1002, timed_spi = 0x1003, timed_cbc_spi = 0x1004, timed_gcm_spi = 0x1005,
                        ah_spi = 0x1006;
constexpr std::uint32_t spis = 7;

struct World {
  Keys null{Cipher::null, Integrity::hmac_sha2_256_128};
  std::vector<std::shared_ptr<Sa>> sas = {
      null.sa(null_spi),
      Keys(Cipher::aes_128_cbc, Integrity::hmac_sha1_96).sa(cbc_spi),
      Keys(Cipher::aes_256_gcm, Integrity::none).sa(gcm_spi),
      timed(null, timed_spi),
      timed(Keys(Cipher::aes_128_cbc, Integrity::hmac_sha1_96), timed_cbc_spi),
      timed(Keys(Cipher::aes_256_gcm, Integrity::none), timed_gcm_spi),
      ah(null, ah_spi),
  };
  SaSet set{sas};
  Esp esp;

  // With a time window; its clock stands still, so that an input means the same each time.
  static std::shared_ptr<Sa> timed(const Keys& keys, std::uint32_t spi) {
    SaParameters parameters = keys.parameters(spi);
    parameters.sender_id = 1;
    parameters.replay_window = 64;
    parameters.time = TimeWindow{100, 10, 0, 0};
    return std::make_shared<Sa>(parameters);
  }
  static std::shared_ptr<Sa> ah(const Keys& keys, std::uint32_t spi) {
    SaParameters parameters = keys.parameters(spi);
    parameters.protocol = Protocol::ah;
    return std::make_shared<Sa>(parameters);
  }
};

Octets authentic(const Octets& payload, std::uint32_t spi) {
  static const Keys keys{Cipher::null, Integrity::hmac_sha2_256_128};
  Octets esp(8);
  store32(&esp[0], spi);
  esp.insert(esp.end(), payload.begin(), payload.end());
  std::uint8_t icv[32];
  unsigned length = sizeof icv;
  HMAC(EVP_sha256(), keys.authentication.data(), static_cast<int>(keys.authentication.size()), esp.data(), esp.size(), icv, &length);
  esp.insert(esp.end(), icv, icv + 16);
  return ipv4(esp, {.protocol = protocol_esp});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static World world;
  if (size == 0 || size > 4096) return 0;
  Octets octets(data + 1, data + size);
  const int form = data[0] % 4;
  if (form == 1) octets = ipv4(octets, {.protocol = protocol_esp});
  if (form == 2) octets = authentic(octets, data[0] / 4 % 2 ? timed_spi : null_spi);
  if (form == 3) {
    Octets esp(4);
    store32(&esp[0], null_spi + data[0] / 4 % spis);
    esp.insert(esp.end(), octets.begin(), octets.end());
    octets = ipv4(esp, {.protocol = protocol_esp});
  }
  const std::unique_ptr<std::uint8_t[]> exact(new std::uint8_t[octets.size()]);
  std::copy(octets.begin(), octets.end(), exact.get());
  Packet packet;
  packet.data = exact.get();
  packet.length = static_cast<std::uint32_t>(octets.size());
  world.esp.decapsulate(world.set, {&packet, 1}, 50'000);
  if (packet.reason == Reason::delivered && !is_whole(packet, {exact.get(), octets.size()})) __builtin_trap();
  return 0;
}
