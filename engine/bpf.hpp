// What the engine needs of bpf(2): maps that both sides share, programs written instruction by instruction, and their attachment to an
// interface. No compiler and no library is needed at run time.
#pragma once

#include <linux/bpf.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "descriptor.hpp"

namespace groupvpn::bpf {

// Of every map: EngineError, with what the kernel said, if it cannot be had.
Descriptor make_array(const char* name, std::uint32_t value_size, std::uint32_t entries);  // may be mapped
Descriptor make_hash(const char* name, std::uint32_t key_size, std::uint32_t value_size, std::uint32_t entries);
Descriptor make_programs(const char* name, std::uint32_t entries);  // entries are descriptors of programs, none yet; the kernel empties it with our last descriptor
Descriptor make_counters(const char* name, std::uint32_t entries);  // of 64 bits, and each processor has its own
Descriptor make_ring_buffer(const char* name, std::uint32_t size);  // a power of two, and of whole pages; may be waited for
Descriptor make_ring_buffers(const char* name, const Descriptor& one, std::uint32_t entries);  // entries are descriptors of maps like `one`

// EngineError if the map is full.
void set_entry(const Descriptor& map, const void* key, const void* value);
// An entry that is not there is no error.
void delete_entry(const Descriptor& map, const void* key) noexcept;
// Of all processors together.
std::uint64_t read_counter(const Descriptor& counters, std::uint32_t number);

// BPF_PROG_TYPE_SCHED_CLS or BPF_PROG_TYPE_SOCKET_FILTER. EngineError, with the end of what the verifier said.
Descriptor load(bpf_prog_type type, const char* name, std::span<const bpf_insn> instructions);
enum class Hook : std::uint8_t { ingress, egress };
// What a program of the former type answers for a frame that nobody sent; `try_run` for one whose answer does not matter, where nothing may be thrown.
std::uint32_t run(const Descriptor& program, std::span<const std::uint8_t> frame);
bool try_run(const Descriptor& program, std::span<const std::uint8_t> frame) noexcept;
// The kernel's number of a program.
std::uint32_t number_of(const Descriptor& program);
// A program of the former type in effect before everything that nftables has for what comes in by the interface, or behind what it has for what leaves,
// until the descriptor is closed: also when the process is killed. It comes right behind the program of number `after`, or before all that were attached so.
// EngineError before Linux 6.6.
Descriptor attach(const Descriptor& program, Hook hook, int interface_index, std::uint32_t after = 0);
// The kernel's numbers of the programs that were attached so to an interface, in the order in which packets meet them.
std::vector<std::uint32_t> attached(Hook hook, int interface_index);

enum Register : std::uint8_t { r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, frame_pointer };
enum class Size : std::uint8_t { octet = BPF_B, half = BPF_H, word = BPF_W, double_word = BPF_DW };
enum class Compare : std::uint8_t { equal = BPF_JEQ, not_equal = BPF_JNE, greater = BPF_JGT, at_least = BPF_JGE, less = BPF_JLT, at_most = BPF_JLE, has_bits = BPF_JSET };

// Instructions one after the other (RFC 9669), and jumps to places that are told later.
class Assembler {
 public:
  struct Label {
    std::size_t number;
  };

  Label label();
  void place(Label label);  // EngineError for a label of another assembler, as far as it can be seen; so do jumps

  void set(Register to, std::int32_t value);
  void copy(Register to, Register from);
  void add(Register to, std::int32_t value);
  void add(Register to, Register value);
  void multiply(Register to, std::int32_t value);
  void shift_left(Register to, std::int32_t bits);
  void shift_right(Register to, std::int32_t bits);
  // Of 32 bits; the upper half of the register becomes 0.
  void copy32(Register to, Register from);
  void add32(Register to, std::int32_t value);
  void add32(Register to, Register value);
  void subtract32(Register to, Register value);
  void multiply32(Register to, std::int32_t value);
  void exclusive_or32(Register to, Register value);
  void mask32(Register to, std::int32_t mask);
  void shift_right32(Register to, std::int32_t bits);
  void to_host16(Register to);  // from the order of the network
  void to_host32(Register to);

  void load(Size size, Register to, Register from, std::int16_t offset);
  void store(Size size, Register to, std::int16_t offset, Register value);
  void store(Size size, Register to, std::int16_t offset, std::int32_t value);
  void add_atomically(Register to, std::int16_t offset, Register value);  // 64 bits
  // If the word there is what r0 is, it becomes `value`; r0 becomes what it was.
  void exchange_if_equal(Register to, std::int16_t offset, Register value);

  void jump(Label to);
  void jump_if(Register left, Compare compare, std::int32_t right, Label to);
  void jump_if(Register left, Compare compare, Register right, Label to);
  void jump_if32(Register left, Compare compare, std::int32_t right, Label to);
  void jump_if32(Register left, Compare compare, Register right, Label to);

  void load_map(Register to, const Descriptor& map);
  void call(bpf_func_id helper);
  void leave();  // with r0

  // The finished program, without what nothing leads to, which the kernel would refuse. Every label that was used has a place by now. EngineError if a
  // jump is too far for an instruction.
  [[nodiscard]] std::vector<bpf_insn> finish();

 private:
  struct Jump {
    std::size_t instruction, label;
  };

  void check(Label label) const;
  std::vector<bool> reached() const;
  void leave_out_the_unreached();
  void emit(int code, std::uint8_t to, std::uint8_t from, std::int16_t offset, std::int32_t value);
  void jump_to(int code, std::uint8_t left, std::uint8_t right, std::int32_t value, Label to);

  std::vector<bpf_insn> instructions_;
  std::vector<Jump> jumps_;
  std::vector<std::size_t> places_;
};

}  // namespace groupvpn::bpf
