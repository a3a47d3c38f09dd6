// How a BPF program wakes a thread of ours where a WakeUp (esp_program.hpp) cannot: a ring buffer of BPF, which can be waited for and of whose contents nobody reads anything.
#pragma once

#include "descriptor.hpp"
#include "mapping.hpp"

namespace groupvpn {

class Doorbell {
 public:
  // EngineError without the right to it.
  Doorbell();

  [[nodiscard]] const Descriptor& map() const noexcept { return map_; }
  // For poll: readable from when it was rung until it is silenced.
  [[nodiscard]] int descriptor() const noexcept { return map_.number(); }
  void silence() noexcept;

 private:
  Descriptor map_;
  Mapping consumer_, producer_;
};

}  // namespace groupvpn
