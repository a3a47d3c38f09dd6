// Python bindings of BPF, by which the rules of an interface are written down as programs. What they promise stands in src/groupvpn/_engine.pyi.
#include "bpf_module.hpp"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <utility>
#include <vector>

#include "bpf.hpp"
#include "descriptor.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace groupvpn {
namespace {

using bpf::Assembler, bpf::Compare, bpf::Register, bpf::Size;

constexpr std::uint32_t most_words = 1 << 16;

struct Words {
  Descriptor map = bpf::make_hash("groupvpn_words", sizeof(std::uint32_t), 1, most_words);
};

struct Counters {
  Descriptor map;
};

// A program at a hook, as long as this exists.
struct Attachment {
  Descriptor link;
};

struct Cell {
  Descriptor map = bpf::make_array("groupvpn_cell", 2 * sizeof(std::uint64_t), 1);
};

struct Program {
  Descriptor program;
};

void add_word(const Words& words, std::uint32_t word) {
  constexpr std::uint8_t present = 1;
  bpf::set_entry(words.map, &word, &present);
}

// Constants of 32 bits may be given with a sign or without.
std::int32_t word(std::int64_t value) { return static_cast<std::int32_t>(static_cast<std::uint32_t>(value)); }

std::uint32_t run(const Program& program, const nb::bytes& frame) {
  return bpf::run(program.program, {static_cast<const std::uint8_t*>(frame.data()), frame.size()});
}

}  // namespace

void bind_bpf(nb::module_& m) {
  nb::enum_<Register>(m, "Register")
      .value("R0", bpf::r0)
      .value("R1", bpf::r1)
      .value("R2", bpf::r2)
      .value("R3", bpf::r3)
      .value("R4", bpf::r4)
      .value("R5", bpf::r5)
      .value("R6", bpf::r6)
      .value("R7", bpf::r7)
      .value("R8", bpf::r8)
      .value("R9", bpf::r9)
      .value("FRAME", bpf::frame_pointer);
  nb::enum_<Size>(m, "Size").value("OCTET", Size::octet).value("HALF", Size::half).value("WORD", Size::word).value("DOUBLE", Size::double_word);
  nb::enum_<Compare>(m, "Compare")
      .value("EQUAL", Compare::equal)
      .value("NOT_EQUAL", Compare::not_equal)
      .value("GREATER", Compare::greater)
      .value("AT_LEAST", Compare::at_least)
      .value("LESS", Compare::less);

  nb::class_<Words>(m, "Words")
      .def(nb::init<>())
      .def("add", &add_word, "word"_a)
      .def("discard", [](const Words& self, std::uint32_t word) { bpf::delete_entry(self.map, &word); }, "word"_a);
  nb::class_<Counters>(m, "Counters")
      .def("__init__", [](Counters* self, std::uint32_t count) { new (self) Counters{bpf::make_counters("groupvpn_counts", count)}; }, "count"_a)
      .def("__getitem__", [](const Counters& self, std::uint32_t number) { return bpf::read_counter(self.map, number); }, "number"_a);
  nb::class_<Cell>(m, "Cell").def(nb::init<>());
  nb::class_<Program>(m, "Program")
      .def(
          "__init__",
          [](Program* self, const std::string& name, Assembler& code) {
            new (self) Program{bpf::load(BPF_PROG_TYPE_SCHED_CLS, name.c_str(), code.finish())};
          },
          "name"_a, "code"_a)
      .def("fileno", [](const Program& self) { return self.program.number(); })
      .def_prop_ro("number", [](const Program& self) { return bpf::number_of(self.program); })
      .def("run", &run, "frame"_a);

  nb::enum_<bpf::Hook>(m, "Hook").value("INGRESS", bpf::Hook::ingress).value("EGRESS", bpf::Hook::egress);
  nb::class_<Attachment>(m, "Attachment")
      .def(
          "__init__",
          [](Attachment* self, const Program& program, bpf::Hook hook, int interface_index, std::uint32_t after) {
            new (self) Attachment{bpf::attach(program.program, hook, interface_index, after)};
          },
          "program"_a, "hook"_a, "interface_index"_a, "after"_a = 0)
      .def("close", [](Attachment& self) { self.link = Descriptor(); });
  m.def("attached", &bpf::attached, "hook"_a, "interface_index"_a);

  nb::class_<Assembler::Label>(m, "Label");
  nb::class_<Assembler>(m, "Assembler")
      .def(nb::init<>())
      .def("label", &Assembler::label)
      .def("place", &Assembler::place, "label"_a)
      .def("set", &Assembler::set, "to"_a, "value"_a)
      .def("copy", &Assembler::copy, "to"_a, "source"_a)
      .def("add", nb::overload_cast<Register, std::int32_t>(&Assembler::add), "to"_a, "value"_a)
      .def("add", nb::overload_cast<Register, Register>(&Assembler::add), "to"_a, "value"_a)
      .def("shift_left", &Assembler::shift_left, "to"_a, "bits"_a)
      .def("shift_right", &Assembler::shift_right, "to"_a, "bits"_a)
      .def("mask", [](Assembler& self, Register to, std::int64_t mask) { self.mask32(to, word(mask)); }, "to"_a, "mask"_a)
      .def("to_host16", &Assembler::to_host16, "to"_a)
      .def("to_host32", &Assembler::to_host32, "to"_a)
      .def("load", &Assembler::load, "size"_a, "to"_a, "source"_a, "offset"_a)
      .def("store", nb::overload_cast<Size, Register, std::int16_t, Register>(&Assembler::store), "size"_a, "to"_a, "offset"_a, "value"_a)
      .def("store", nb::overload_cast<Size, Register, std::int16_t, std::int32_t>(&Assembler::store), "size"_a, "to"_a, "offset"_a, "value"_a)
      .def("add_atomically", &Assembler::add_atomically, "to"_a, "offset"_a, "value"_a)
      .def("jump", &Assembler::jump, "to"_a)
      .def(
          "jump_if",
          [](Assembler& self, Register left, Compare compare, std::int64_t right, Assembler::Label to) { self.jump_if32(left, compare, word(right), to); },
          "left"_a, "compare"_a, "right"_a, "to"_a)
      .def("jump_if", nb::overload_cast<Register, Compare, Register, Assembler::Label>(&Assembler::jump_if32), "left"_a, "compare"_a, "right"_a, "to"_a)
      .def(
          "jump_if_beyond", [](Assembler& self, Register left, Register right, Assembler::Label to) { self.jump_if(left, Compare::greater, right, to); },
          "left"_a, "right"_a, "to"_a)
      .def("jump_if_null", [](Assembler& self, Register address, Assembler::Label to) { self.jump_if(address, Compare::equal, 0, to); }, "address"_a, "to"_a)
      .def("load_words", [](Assembler& self, Register to, const Words& words) { self.load_map(to, words.map); }, "to"_a, "words"_a)
      .def("load_counters", [](Assembler& self, Register to, const Counters& counters) { self.load_map(to, counters.map); }, "to"_a, "counters"_a)
      .def("load_cell", [](Assembler& self, Register to, const Cell& cell) { self.load_map(to, cell.map); }, "to"_a, "cell"_a)
      .def("call", [](Assembler& self, int helper) { self.call(static_cast<bpf_func_id>(helper)); }, "helper"_a)
      .def("leave", &Assembler::leave);
}

}  // namespace groupvpn
