// Programs that the assembler writes, taken and run by the kernel.
#include "bpf.hpp"

#include <cstdio>
#include <string>
#include <vector>

#include "device.hpp"
#include "error.hpp"
#include "harness.hpp"
#include "own_network.hpp"

using namespace groupvpn;
using namespace groupvpn::bpf;
using namespace groupvpn::test;

namespace {

const Octets frame(64);

std::uint32_t answer_of(Assembler& code, const Octets& given = frame) { return run(load(BPF_PROG_TYPE_SCHED_CLS, "test", code.finish()), given); }

void leave_with(Assembler& code, std::int32_t answer) {
  code.set(r0, answer);
  code.leave();
}

}  // namespace

TEST_CASE(a_program_answers) {
  if (!has_own_network()) return;
  Assembler code;
  leave_with(code, 2);
  CHECK(answer_of(code) == 2);
}

TEST_CASE(what_nothing_leads_to_is_left_out) {
  if (!has_own_network()) return;
  Assembler code;
  const auto end = code.label(), unused = code.label(), back = code.label();
  code.jump(end);
  leave_with(code, 1);
  code.place(unused);
  code.jump(back);
  code.place(back);
  leave_with(code, 5);
  code.place(end);
  leave_with(code, 7);
  leave_with(code, 9);
  const auto instructions = code.finish();
  CHECK(instructions.size() == 3);
  CHECK(run(load(BPF_PROG_TYPE_SCHED_CLS, "test", instructions), frame) == 7);
}

TEST_CASE(an_address_of_a_map_counts_for_two_instructions) {
  if (!has_own_network()) return;
  const Descriptor counters = make_counters("test", 3);
  Assembler code;
  const auto missing = code.label();
  code.store(Size::word, frame_pointer, -4, 2);
  code.load_map(r1, counters);
  code.copy(r2, frame_pointer);
  code.add(r2, -4);
  code.call(BPF_FUNC_map_lookup_elem);
  code.jump_if(r0, Compare::equal, 0, missing);
  code.load(Size::double_word, r1, r0, 0);
  code.add(r1, 1);
  code.store(Size::double_word, r0, 0, r1);
  code.place(missing);
  leave_with(code, 0);
  const Descriptor program = load(BPF_PROG_TYPE_SCHED_CLS, "test", code.finish());
  for (int turn = 0; turn < 3; ++turn) CHECK(run(program, frame) == 0);
  CHECK(read_counter(counters, 2) == 3);
  CHECK(read_counter(counters, 1) == 0);
  CHECK(refusal_of([&] { static_cast<void>(read_counter(counters, 3)); }).find("BPF map") != std::string::npos);
}

TEST_CASE(a_number_in_the_order_of_the_network_is_turned) {
  if (!has_own_network()) return;
  for (const bool is_word : {false, true}) {
    Assembler code;
    code.set(r0, is_word ? 0x04030201 : 0x0201);
    if (is_word) {
      code.to_host32(r0);
    } else {
      code.to_host16(r0);
    }
    code.leave();
    CHECK(answer_of(code) == (is_word ? 0x01020304U : 0x0102U));
  }
}

TEST_CASE(a_jump_over_too_much_is_refused) {
  Assembler code;
  const auto far = code.label();
  code.jump_if(r1, Compare::equal, 0, far);
  for (int number = 0; number < 40000; ++number) code.set(r0, number);
  code.place(far);
  code.leave();
  CHECK(refusal_of([&] { static_cast<void>(code.finish()); }).find("BPF program: a jump over 40000 instructions") != std::string::npos);
}

TEST_CASE(a_jump_to_no_place_is_refused) {
  Assembler code;
  const auto nowhere = code.label();
  code.set(r0, 5);
  code.jump_if(r0, Compare::equal, 6, nowhere);
  code.leave();
  CHECK(refusal_of([&] { static_cast<void>(code.finish()); }).find("BPF program: a jump to no place") != std::string::npos);
}

TEST_CASE(a_label_has_one_place) {
  Assembler code;
  const auto twice = code.label();
  code.place(twice);
  leave_with(code, 1);
  CHECK(refusal_of([&] { code.place(twice); }).find("BPF program: a label at two places") != std::string::npos);
}

TEST_CASE(what_the_verifier_says_is_told) {
  if (!has_own_network()) return;
  Assembler code;
  code.leave();  // R0 has no value
  CHECK(refusal_of([&] { static_cast<void>(load(BPF_PROG_TYPE_SCHED_CLS, "test", code.finish())); }).find("R0 !read_ok") != std::string::npos);
}

TEST_CASE(a_program_comes_before_all_others_or_right_behind_one) {
  if (!has_own_network()) return;
  Assembler code;
  leave_with(code, -1);
  const auto instructions = code.finish();
  std::vector<Descriptor> programs;
  std::vector<std::uint32_t> numbers;
  for (const char* name : {"one", "two", "three"}) {
    programs.push_back(load(BPF_PROG_TYPE_SCHED_CLS, name, instructions));
    numbers.push_back(number_of(programs.back()));
  }
  const int index = Device::named("wan").index;
  try {
    const Descriptor one = attach(programs[0], Hook::ingress, index);
    const Descriptor two = attach(programs[1], Hook::ingress, index);
    const Descriptor three = attach(programs[2], Hook::ingress, index, numbers[1]);
    CHECK((attached(Hook::ingress, index) == std::vector{numbers[1], numbers[2], numbers[0]}));
    CHECK(attached(Hook::egress, index).empty());
    CHECK(refusal_of([&] { static_cast<void>(attach(programs[2], Hook::egress, index, numbers[1])); }).find("BPF link") != std::string::npos);
  } catch (const EngineError& error) {
    static_cast<void>(cannot_have(std::string("programs in the order of tcx: ") + error.what()));
    return;
  }
  CHECK(attached(Hook::ingress, index).empty());
}

// One assembler does not know what another one calls by a number.
TEST_CASE(a_label_of_another_program_is_refused) {
  Assembler code, other;
  for (int count = 0; count < 3; ++count) static_cast<void>(other.label());
  const auto strange = other.label();
  CHECK(refusal_of([&] { code.jump(strange); }) == "BPF program: a label of another one");
  CHECK(refusal_of([&] { code.jump_if(r0, Compare::equal, 1, strange); }) == "BPF program: a label of another one");
  CHECK(refusal_of([&] { code.place(strange); }) == "BPF program: a label of another one");
}
