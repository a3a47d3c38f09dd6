// The one exception of the engine: it cannot do what it was asked. Packets never raise it, they are counted (reason.hpp).
#pragma once

#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>

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

// The error number as text behind what was tried: "bind: Device or resource busy".
inline std::string describe_error(std::string_view what, int error) { return std::string(what) + ": " + std::strerror(error); }

}  // namespace groupvpn
