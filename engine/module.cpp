// Python bindings of the ESP engine.
#include <nanobind/nanobind.h>

NB_MODULE(_engine, m) { m.doc() = "The ESP engine"; }
