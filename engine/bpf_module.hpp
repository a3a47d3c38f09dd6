// The part of the Python module that writes BPF programs.
#pragma once

#include <nanobind/nanobind.h>

namespace groupvpn {

void bind_bpf(nanobind::module_& m);

}  // namespace groupvpn
