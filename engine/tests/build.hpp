// Packets and SAs for tests.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "checksum.hpp"
#include "esp.hpp"
#include "packet.hpp"
#include "sa.hpp"

namespace groupvpn::test {

using Octets = std::vector<std::uint8_t>;

struct Header {
  std::uint8_t tos = 0, ttl = 64, protocol = 253;
  std::uint16_t identification = 1, fragment = 0;
  std::uint32_t source = 0x0a010109, destination = 0x0a020209;
  Octets options = {};
};

inline Octets ipv4(const Octets& payload, const Header& header = {}) {
  Octets packet(ipv4_header_size + header.options.size() + payload.size());
  const std::size_t size = ipv4_header_size + header.options.size();
  packet[0] = static_cast<std::uint8_t>(0x40 | size / 4);
  packet[1] = header.tos;
  store16(&packet[2], static_cast<std::uint16_t>(packet.size()));
  store16(&packet[4], header.identification);
  store16(&packet[6], header.fragment);
  packet[8] = header.ttl;
  packet[9] = header.protocol;
  store32(&packet[12], header.source);
  store32(&packet[16], header.destination);
  if (!header.options.empty()) std::memcpy(&packet[20], header.options.data(), header.options.size());
  write_header_checksum(packet.data());
  if (!payload.empty()) std::memcpy(&packet[size], payload.data(), payload.size());
  return packet;
}

struct Ipv6Header {
  std::uint8_t traffic_class = 0, hop_limit = 64, next_header = protocol_none;
  std::uint32_t flow_label = 0;
  std::uint8_t source = 1, destination = 2;  // last octets of 2001:db8:: addresses
};

inline Octets ipv6(const Octets& payload, const Ipv6Header& header = {}) {
  Octets packet(ipv6_header_size);
  store32(&packet[0], 6U << 28 | std::uint32_t{header.traffic_class} << 20 | header.flow_label);
  store16(&packet[4], static_cast<std::uint16_t>(payload.size()));
  packet[6] = header.next_header;
  packet[7] = header.hop_limit;
  store32(&packet[8], 0x20010db8);
  packet[23] = header.source;
  store32(&packet[24], 0x20010db8);
  packet[39] = header.destination;
  packet.insert(packet.end(), payload.begin(), payload.end());
  return packet;
}

// A packet with room around it.
class Buffer {
 public:
  explicit Buffer(const Octets& octets) : storage_(esp_headroom + octets.size() + esp_tailroom) {
    if (!octets.empty()) std::memcpy(storage_.data() + esp_headroom, octets.data(), octets.size());
    packet.data = storage_.data() + esp_headroom;
    packet.length = static_cast<std::uint32_t>(octets.size());
    packet.headroom = esp_headroom;
    packet.tailroom = esp_tailroom;
  }
  [[nodiscard]] Octets octets() const { return {packet.data, packet.data + packet.length}; }

  Packet packet;

 private:
  Octets storage_;
};

struct Keys {
  Cipher cipher;
  Integrity integrity;
  Octets encryption, authentication, salt;

  Keys(Cipher which, Integrity how, std::uint8_t fill = 0x5a)
      : cipher(which), integrity(how), encryption(traits(which).key, fill), authentication(traits(how).key, fill), salt(traits(which).salt, fill) {}

  [[nodiscard]] SaParameters parameters(std::uint32_t spi = 0x1000) const {
    SaParameters result;
    result.spi = spi;
    result.cipher = cipher;
    result.encryption_key = encryption;
    result.integrity = integrity;
    result.integrity_key = authentication;
    result.salt = salt;
    if (traits(cipher).is_counter_mode()) result.sender_id = 1;
    return result;
  }
  [[nodiscard]] std::shared_ptr<Sa> sa(std::uint32_t spi = 0x1000) const { return std::make_shared<Sa>(parameters(spi)); }
};

inline std::vector<Keys> all_transforms() {
  std::vector<Keys> result;
  for (int cipher = 0; cipher <= static_cast<int>(Cipher::aes_256_ctr); ++cipher) {
    const bool is_combined = traits(static_cast<Cipher>(cipher)).icv != 0;
    for (int integrity = is_combined ? 0 : 1; integrity <= (is_combined ? 0 : static_cast<int>(Integrity::hmac_sha2_512_256)); ++integrity) {
      result.emplace_back(static_cast<Cipher>(cipher), static_cast<Integrity>(integrity), static_cast<std::uint8_t>(16 * cipher + integrity));
    }
  }
  return result;
}

}  // namespace groupvpn::test
