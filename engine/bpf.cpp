#include "bpf.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>

#include "error.hpp"

namespace groupvpn::bpf {
namespace {

constexpr std::uint32_t tcx_ingress = 46, tcx_egress = 47;  // BPF_TCX_INGRESS, BPF_TCX_EGRESS; Linux 6.6
constexpr std::uint32_t before_others = 1U << 3, behind_number = 1U << 4 | 1U << 5;  // BPF_F_BEFORE, BPF_F_AFTER | BPF_F_ID
constexpr std::uint32_t most_attached = 64;  // BPF_MPROG_MAX
constexpr std::size_t shown_of_log = 300;
constexpr int most_attempts = 10;
constexpr std::size_t unplaced = std::numeric_limits<std::size_t>::max();  // of a label that nobody has placed yet
// The kernel writes a value for each processor that it could have, and does not say how many those are. This is the most that it can be built for.
constexpr std::size_t most_processors = 8192;

std::uint32_t attach_type_of(Hook hook) noexcept { return hook == Hook::ingress ? tcx_ingress : tcx_egress; }

int call_kernel(bpf_cmd command, bpf_attr& attributes) noexcept {
  return static_cast<int>(syscall(SYS_bpf, command, &attributes, sizeof attributes));
}

template <std::size_t size>
void set_name(char (&field)[size], const char* name) noexcept {
  std::strncpy(field, name, size - 1);
}

std::uint64_t address_of(const void* pointer) noexcept { return reinterpret_cast<std::uint64_t>(pointer); }

Descriptor make_map(bpf_map_type type, const char* name, std::uint32_t key_size, std::uint32_t value_size, std::uint32_t entries, std::uint32_t flags, int inner = 0) {
  bpf_attr attributes{};
  attributes.inner_map_fd = static_cast<std::uint32_t>(inner);
  attributes.map_type = type;
  attributes.key_size = key_size;
  attributes.value_size = value_size;
  attributes.max_entries = entries;
  attributes.map_flags = flags;
  set_name(attributes.map_name, name);
  Descriptor map(call_kernel(BPF_MAP_CREATE, attributes));
  if (map.number() < 0) throw EngineError(describe_error("BPF map", errno));
  return map;
}

// A signal to the thread has the verifier give up.
int load_whatever_signals_come(bpf_attr& attributes) noexcept {
  for (int attempt = 1;; ++attempt) {
    const int program = call_kernel(BPF_PROG_LOAD, attributes);
    if (program >= 0 || errno != EAGAIN || attempt == most_attempts) return program;
  }
}

std::optional<std::uint32_t> answer_for(const Descriptor& program, std::span<const std::uint8_t> frame) noexcept {
  bpf_attr attributes{};
  attributes.test.prog_fd = static_cast<std::uint32_t>(program.number());
  attributes.test.data_in = address_of(frame.data());
  attributes.test.data_size_in = static_cast<std::uint32_t>(frame.size());
  return call_kernel(BPF_PROG_TEST_RUN, attributes) == 0 ? std::optional(attributes.test.retval) : std::nullopt;
}

// The last lines of what the verifier said, which name the fault.
std::string end_of(const std::vector<char>& log) {
  std::string text(log.data());
  while (!text.empty() && text.back() == '\n') text.pop_back();
  if (text.size() > shown_of_log) text.erase(0, text.size() - shown_of_log);
  std::ranges::replace(text, '\n', ' ');
  return text;
}

}  // namespace

Descriptor make_array(const char* name, std::uint32_t value_size, std::uint32_t entries) {
  return make_map(BPF_MAP_TYPE_ARRAY, name, sizeof(std::uint32_t), value_size, entries, BPF_F_MMAPABLE);
}

Descriptor make_hash(const char* name, std::uint32_t key_size, std::uint32_t value_size, std::uint32_t entries) {
  return make_map(BPF_MAP_TYPE_HASH, name, key_size, value_size, entries, BPF_F_NO_PREALLOC);
}

Descriptor make_programs(const char* name, std::uint32_t entries) {
  return make_map(BPF_MAP_TYPE_PROG_ARRAY, name, sizeof(std::uint32_t), sizeof(int), entries, 0);
}

Descriptor make_counters(const char* name, std::uint32_t entries) {
  return make_map(BPF_MAP_TYPE_PERCPU_ARRAY, name, sizeof(std::uint32_t), sizeof(std::uint64_t), entries, 0);
}

Descriptor make_ring_buffer(const char* name, std::uint32_t size) { return make_map(BPF_MAP_TYPE_RINGBUF, name, 0, 0, size, 0); }

Descriptor make_ring_buffers(const char* name, const Descriptor& one, std::uint32_t entries) {
  return make_map(BPF_MAP_TYPE_ARRAY_OF_MAPS, name, sizeof(std::uint32_t), sizeof(int), entries, 0, one.number());
}

void set_entry(const Descriptor& map, const void* key, const void* value) {
  bpf_attr attributes{};
  attributes.map_fd = static_cast<std::uint32_t>(map.number());
  attributes.key = address_of(key);
  attributes.value = address_of(value);
  if (call_kernel(BPF_MAP_UPDATE_ELEM, attributes) != 0) throw EngineError(describe_error("BPF map", errno));
}

void delete_entry(const Descriptor& map, const void* key) noexcept {
  bpf_attr attributes{};
  attributes.map_fd = static_cast<std::uint32_t>(map.number());
  attributes.key = address_of(key);
  call_kernel(BPF_MAP_DELETE_ELEM, attributes);
}

std::uint64_t read_counter(const Descriptor& counters, std::uint32_t number) {
  std::vector<std::uint64_t> values(most_processors);
  bpf_attr attributes{};
  attributes.map_fd = static_cast<std::uint32_t>(counters.number());
  attributes.key = address_of(&number);
  attributes.value = address_of(values.data());
  if (call_kernel(BPF_MAP_LOOKUP_ELEM, attributes) != 0) throw EngineError(describe_error("BPF map", errno));
  return std::accumulate(values.begin(), values.end(), std::uint64_t{0});
}

Descriptor load(bpf_prog_type type, const char* name, std::span<const bpf_insn> instructions) {
  static constexpr char licence[] = "Apache-2.0";
  std::vector<char> log(1 << 16);
  bpf_attr attributes{};
  attributes.prog_type = type;
  if (type == BPF_PROG_TYPE_SCHED_CLS) attributes.expected_attach_type = tcx_ingress;
  attributes.insns = address_of(instructions.data());
  attributes.insn_cnt = static_cast<std::uint32_t>(instructions.size());
  attributes.license = address_of(licence);
  set_name(attributes.prog_name, name);
  Descriptor program(load_whatever_signals_come(attributes));
  if (program.number() >= 0) return program;
  const int error = errno;
  attributes.log_level = 1;
  attributes.log_buf = address_of(log.data());
  attributes.log_size = static_cast<std::uint32_t>(log.size());
  Descriptor again(call_kernel(BPF_PROG_LOAD, attributes));  // only to hear why
  throw EngineError(describe_error("BPF program", error) + (log[0] != 0 ? " (" + end_of(log) + ")" : ""));
}

std::uint32_t run(const Descriptor& program, std::span<const std::uint8_t> frame) {
  const std::optional<std::uint32_t> answer = answer_for(program, frame);
  if (!answer) throw EngineError(describe_error("BPF program", errno));
  return *answer;
}

bool try_run(const Descriptor& program, std::span<const std::uint8_t> frame) noexcept { return answer_for(program, frame).has_value(); }

std::uint32_t number_of(const Descriptor& program) {
  bpf_prog_info information{};
  bpf_attr attributes{};
  attributes.info.bpf_fd = static_cast<std::uint32_t>(program.number());
  attributes.info.info = address_of(&information);
  attributes.info.info_len = sizeof information;
  if (call_kernel(BPF_OBJ_GET_INFO_BY_FD, attributes) != 0) throw EngineError(describe_error("BPF program", errno));
  return information.id;
}

Descriptor attach(const Descriptor& program, Hook hook, int interface_index, std::uint32_t after) {
  bpf_attr attributes{};
  attributes.link_create.prog_fd = static_cast<std::uint32_t>(program.number());
  attributes.link_create.target_ifindex = static_cast<std::uint32_t>(interface_index);
  attributes.link_create.attach_type = attach_type_of(hook);
  attributes.link_create.flags = after == 0 ? before_others : behind_number;
  attributes.link_create.target_btf_id = after;  // tcx.relative_id is a name of it, since Linux 6.6
  Descriptor link(call_kernel(BPF_LINK_CREATE, attributes));
  if (link.number() < 0) throw EngineError(describe_error("BPF link to an interface", errno));
  return link;
}

std::vector<std::uint32_t> attached(Hook hook, int interface_index) {
  std::vector<std::uint32_t> programs(most_attached);
  bpf_attr attributes{};
  attributes.query.target_fd = static_cast<std::uint32_t>(interface_index);  // target_ifindex is a name of it, since Linux 6.6
  attributes.query.attach_type = attach_type_of(hook);
  attributes.query.prog_ids = address_of(programs.data());
  attributes.query.prog_cnt = most_attached;
  if (call_kernel(BPF_PROG_QUERY, attributes) != 0) throw EngineError(describe_error("BPF programs of an interface", errno));
  programs.resize(std::min(attributes.query.prog_cnt, most_attached));
  return programs;
}

Assembler::Label Assembler::label() {
  places_.push_back(unplaced);
  return {places_.size() - 1};
}

void Assembler::check(Label label) const {
  if (label.number >= places_.size()) throw EngineError("BPF program: a label of another one");
}

void Assembler::place(Label label) {
  check(label);
  if (places_[label.number] != unplaced) throw EngineError("BPF program: a label at two places");
  places_[label.number] = instructions_.size();
}

void Assembler::emit(int code, std::uint8_t to, std::uint8_t from, std::int16_t offset, std::int32_t value) {
  bpf_insn instruction{};
  instruction.code = static_cast<std::uint8_t>(code);
  instruction.dst_reg = to & 0x0fU;
  instruction.src_reg = from & 0x0fU;
  instruction.off = offset;
  instruction.imm = value;
  instructions_.push_back(instruction);
}

void Assembler::set(Register to, std::int32_t value) { emit(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value); }
void Assembler::copy(Register to, Register from) { emit(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0); }
void Assembler::add(Register to, std::int32_t value) { emit(BPF_ALU64 | BPF_ADD | BPF_K, to, 0, 0, value); }
void Assembler::add(Register to, Register value) { emit(BPF_ALU64 | BPF_ADD | BPF_X, to, value, 0, 0); }
void Assembler::multiply(Register to, std::int32_t value) { emit(BPF_ALU64 | BPF_MUL | BPF_K, to, 0, 0, value); }
void Assembler::shift_left(Register to, std::int32_t bits) { emit(BPF_ALU64 | BPF_LSH | BPF_K, to, 0, 0, bits); }
void Assembler::shift_right(Register to, std::int32_t bits) { emit(BPF_ALU64 | BPF_RSH | BPF_K, to, 0, 0, bits); }
void Assembler::copy32(Register to, Register from) { emit(BPF_ALU | BPF_MOV | BPF_X, to, from, 0, 0); }
void Assembler::add32(Register to, std::int32_t value) { emit(BPF_ALU | BPF_ADD | BPF_K, to, 0, 0, value); }
void Assembler::add32(Register to, Register value) { emit(BPF_ALU | BPF_ADD | BPF_X, to, value, 0, 0); }
void Assembler::subtract32(Register to, Register value) { emit(BPF_ALU | BPF_SUB | BPF_X, to, value, 0, 0); }
void Assembler::multiply32(Register to, std::int32_t value) { emit(BPF_ALU | BPF_MUL | BPF_K, to, 0, 0, value); }
void Assembler::exclusive_or32(Register to, Register value) { emit(BPF_ALU | BPF_XOR | BPF_X, to, value, 0, 0); }
void Assembler::mask32(Register to, std::int32_t mask) { emit(BPF_ALU | BPF_AND | BPF_K, to, 0, 0, mask); }
void Assembler::shift_right32(Register to, std::int32_t bits) { emit(BPF_ALU | BPF_RSH | BPF_K, to, 0, 0, bits); }

void Assembler::to_host16(Register to) { emit(BPF_ALU | BPF_END | BPF_TO_BE, to, 0, 0, 16); }
void Assembler::to_host32(Register to) { emit(BPF_ALU | BPF_END | BPF_TO_BE, to, 0, 0, 32); }

void Assembler::load(Size size, Register to, Register from, std::int16_t offset) {
  emit(BPF_LDX | BPF_MEM | static_cast<int>(size), to, from, offset, 0);
}

void Assembler::store(Size size, Register to, std::int16_t offset, Register value) {
  emit(BPF_STX | BPF_MEM | static_cast<int>(size), to, value, offset, 0);
}

void Assembler::store(Size size, Register to, std::int16_t offset, std::int32_t value) {
  emit(BPF_ST | BPF_MEM | static_cast<int>(size), to, 0, offset, value);
}

void Assembler::add_atomically(Register to, std::int16_t offset, Register value) {
  emit(BPF_STX | BPF_ATOMIC | BPF_DW, to, value, offset, BPF_ADD);
}

void Assembler::exchange_if_equal(Register to, std::int16_t offset, Register value) {
  emit(BPF_STX | BPF_ATOMIC | BPF_W, to, value, offset, BPF_CMPXCHG);
}

void Assembler::jump_to(int code, std::uint8_t left, std::uint8_t right, std::int32_t value, Label to) {
  check(to);
  jumps_.push_back({instructions_.size(), to.number});
  emit(code, left, right, 0, value);
}

void Assembler::jump(Label to) { jump_to(BPF_JMP | BPF_JA, 0, 0, 0, to); }

void Assembler::jump_if(Register left, Compare compare, std::int32_t right, Label to) {
  jump_to(BPF_JMP | BPF_K | static_cast<int>(compare), left, 0, right, to);
}

void Assembler::jump_if(Register left, Compare compare, Register right, Label to) {
  jump_to(BPF_JMP | BPF_X | static_cast<int>(compare), left, right, 0, to);
}

void Assembler::jump_if32(Register left, Compare compare, std::int32_t right, Label to) {
  jump_to(BPF_JMP32 | BPF_K | static_cast<int>(compare), left, 0, right, to);
}

void Assembler::jump_if32(Register left, Compare compare, Register right, Label to) {
  jump_to(BPF_JMP32 | BPF_X | static_cast<int>(compare), left, right, 0, to);
}

// A value of 64 bits takes two instructions; the kernel puts the address in.
void Assembler::load_map(Register to, const Descriptor& map) {
  emit(BPF_LD | BPF_DW | BPF_IMM, to, BPF_PSEUDO_MAP_FD, 0, map.number());
  emit(0, 0, 0, 0, 0);
}

void Assembler::call(bpf_func_id helper) { emit(BPF_JMP | BPF_CALL, 0, 0, 0, helper); }
void Assembler::leave() { emit(BPF_JMP | BPF_EXIT, 0, 0, 0, 0); }

std::vector<bool> Assembler::reached() const {
  std::vector<std::size_t> targets(instructions_.size()), waiting{0};
  for (const Jump& jump : jumps_) targets[jump.instruction] = places_[jump.label];
  std::vector<bool> reached(instructions_.size());
  while (!waiting.empty()) {
    const std::size_t number = waiting.back();
    waiting.pop_back();
    if (number >= reached.size() || reached[number]) continue;
    reached[number] = true;
    const std::uint8_t code = instructions_[number].code, kind = BPF_CLASS(code);
    const bool is_jump = (kind == BPF_JMP || kind == BPF_JMP32) && BPF_OP(code) != BPF_CALL && BPF_OP(code) != BPF_EXIT;
    if (is_jump) waiting.push_back(targets[number]);
    if (code != (BPF_JMP | BPF_EXIT) && code != (BPF_JMP | BPF_JA)) waiting.push_back(number + 1);
  }
  return reached;
}

void Assembler::leave_out_the_unreached() {
  const std::vector<bool> kept = reached();
  std::vector<std::size_t> moved(kept.size() + 1);
  for (std::size_t number = 0; number < kept.size(); ++number) {
    moved[number + 1] = moved[number] + (kept[number] ? 1 : 0);
    instructions_[moved[number]] = instructions_[number];
  }
  instructions_.resize(moved.back());
  std::erase_if(jumps_, [&](const Jump& jump) { return !kept[jump.instruction]; });
  for (Jump& jump : jumps_) jump.instruction = moved[jump.instruction];
  for (std::size_t& place : places_) {
    if (place != unplaced) place = moved[place];
  }
}

std::vector<bpf_insn> Assembler::finish() {
  leave_out_the_unreached();
  if (std::ranges::any_of(jumps_, [this](const Jump& jump) { return places_[jump.label] == unplaced; })) throw EngineError("BPF program: a jump to no place");
  for (const Jump& jump : jumps_) {
    const auto distance = static_cast<std::ptrdiff_t>(places_[jump.label]) - static_cast<std::ptrdiff_t>(jump.instruction) - 1;
    if (distance != static_cast<std::int16_t>(distance)) throw EngineError("BPF program: a jump over " + std::to_string(distance) + " instructions");
    instructions_[jump.instruction].off = static_cast<std::int16_t>(distance);
  }
  jumps_.clear();
  return std::move(instructions_);
}

}  // namespace groupvpn::bpf
