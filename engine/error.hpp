// The one exception of the engine: it cannot do what it was asked. Packets never raise it, they are counted (reason.hpp).
#pragma once

#include <stdexcept>
#include <string>

namespace groupvpn {

class EngineError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// What was asked for is somebody else's at the moment: asking again later may help.
class EngineBusy : public EngineError {
 public:
  using EngineError::EngineError;
};

}  // namespace groupvpn
