// The part of the Python module that makes and reads SAs.
#pragma once

#include <nanobind/nanobind.h>

namespace groupvpn {

void bind_sa(nanobind::module_& m);

}  // namespace groupvpn
