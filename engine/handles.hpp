// What Python holds of the engine.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>
#include <span>
#include <vector>

#include "events.hpp"
#include "sa.hpp"

namespace groupvpn {

// Python owns this handle and not the SA itself: a thread of the engine that lets go of an SA last must not need the interpreter's lock.
struct SaHandle {
  std::shared_ptr<Sa> sa;
};

struct EventsHandle {
  std::shared_ptr<EventQueue> queue = std::make_shared<EventQueue>();
};

struct CountersHandle {
  std::shared_ptr<SaCounters> counters = std::make_shared<SaCounters>();
};

// ValueError for None, which comes as no handle.
inline std::vector<std::shared_ptr<Sa>> sas_of(std::span<const SaHandle* const> handles) {
  std::vector<std::shared_ptr<Sa>> sas;
  for (const SaHandle* handle : handles) {
    if (handle == nullptr) throw nanobind::value_error("None is no SA");
    sas.push_back(handle->sa);
  }
  return sas;
}

}  // namespace groupvpn
