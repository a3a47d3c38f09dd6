// The part of the Python module that serves interfaces.
#pragma once

#include <nanobind/nanobind.h>

namespace groupvpn {

void bind_port(nanobind::module_& m);

}  // namespace groupvpn
