// What an SA can be apart from its algorithms.
#pragma once

#include <memory>
#include <vector>

#include "build.hpp"

namespace groupvpn::test {

// SAs of every form: protocol, mode, end points, UDP, extended sequence numbers. SPIs from 2000 on.
inline std::vector<std::shared_ptr<Sa>> all_forms() {
  std::vector<std::shared_ptr<Sa>> sas;
  for (int form = 0; form < 64; ++form) {
    for (const Keys& keys : {Keys(Cipher::aes_256_cbc, Integrity::hmac_sha2_512_256), Keys(Cipher::aes_128_gcm, Integrity::none),
                             Keys(Cipher::null, Integrity::hmac_sha2_512_256)}) {
      SaParameters parameters = keys.parameters(static_cast<std::uint32_t>(2000 + sas.size()));
      const bool is_ah = (form & 1) != 0;
      if (is_ah && keys.cipher != Cipher::null) continue;
      parameters.protocol = is_ah ? Protocol::ah : Protocol::esp;
      parameters.mode = (form & 2) != 0 ? Mode::transport : Mode::tunnel;
      const int endpoints = form >> 2 & 3;
      if (endpoints == 3 || (endpoints != 0 && parameters.mode == Mode::transport)) continue;
      if (endpoints != 0) parameters.endpoints = Endpoints{endpoints == 1 ? Family::ipv4 : Family::ipv6, {192, 0, 2, 1}, {192, 0, 2, 2}};
      if ((form & 16) != 0 && is_ah) continue;
      if ((form & 16) != 0) parameters.udp = UdpPorts{4500, 4501};
      if ((form & 32) != 0) {
        parameters.extended_sequence = true;
        parameters.replay_window = 4096;
        parameters.sender_id_bits = 0;
        if (parameters.sender_id) parameters.sender_id = 0;
      }
      sas.push_back(std::make_shared<Sa>(parameters));
    }
  }
  return sas;
}

}  // namespace groupvpn::test
