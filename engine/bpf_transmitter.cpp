#include "bpf_transmitter.hpp"

#include <linux/if_ether.h>
#include <net/if.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "bpf.hpp"
#include "error.hpp"
#include "header_fields.hpp"
#include "ring_program.hpp"

namespace groupvpn {
namespace {

using namespace bpf;
using ring_program::field;
using ring_program::look_up;
using Label = Assembler::Label;

constexpr std::int16_t length_at = 0, begin_at = 4, priority_at = 8, result_at = 12;  // as in `Entry`
constexpr std::int16_t next_at = length_at, end_at = begin_at;
constexpr std::int16_t key_on_stack = -4;
constexpr std::int32_t no_interface = -EINVAL;  // clone_redirect's word for it
constexpr std::size_t largest_frame = 16000;    // a packet that a program lets grow has at most 16 KiB, with what the kernel keeps behind it
// Octets of the packet that the program is run with. The kernel wants to see all of an IP header, and takes what the packet weighs, and each copy of it, from there;
// it takes less than a page.
constexpr std::size_t smallest_sample = 64, largest_sample = 3072;

// A loop of 128 rounds is too much for the verifier when it also follows what a processor might guess, as it does for a process without CAP_PERFMON. So the program
// takes a few frames and begins anew, as often as the kernel lets it.
constexpr std::size_t frames_per_beginning = 4, most_beginnings = 34;
static_assert(frames_per_beginning * most_beginnings >= Transmitter::burst_size);

struct Bounds {
  std::uint32_t slots, latest_begin, longest_frame;
};

// The verifier adds the longest frame to the latest place where one may begin. Entries stand an odd number of cache lines apart, so that their headers do not
// compete for the same sets.
constexpr std::size_t entry_size_for(std::size_t latest_begin, std::size_t slot_size) { return ((latest_begin + slot_size + 63) / 64 | 1) * 64; }

// r6: the packet that the program was run with, r0: an entry. Has the packet be the frame of the entry and leaves that in r9.
void become_frame(Assembler& code, const Bounds& bounds, Label impossible) {
  const Label is_as_long = code.label();  // as most are of the one before
  code.copy(r9, r0);
  code.load(Size::word, r2, r9, length_at);
  code.jump_if(r2, Compare::less, ETH_HLEN, impossible);
  code.load(Size::word, r1, r6, field(offsetof(__sk_buff, len)));
  code.jump_if(r1, Compare::equal, r2, is_as_long);
  code.copy(r1, r6);
  code.set(r3, 0);
  code.call(BPF_FUNC_skb_change_tail);
  code.jump_if(r0, Compare::not_equal, 0, impossible);
  code.place(is_as_long);
  code.load(Size::word, r4, r9, length_at);  // what is known of a register is not known of the memory
  code.jump_if(r4, Compare::less, ETH_HLEN, impossible);
  code.jump_if(r4, Compare::greater, static_cast<std::int32_t>(bounds.longest_frame), impossible);
  code.load(Size::word, r1, r9, begin_at);
  code.jump_if(r1, Compare::greater, static_cast<std::int32_t>(bounds.latest_begin), impossible);
  code.copy(r3, r9);
  code.add(r3, r1);
  code.copy(r1, r6);
  code.set(r2, 0);
  code.set(r5, 0);
  code.call(BPF_FUNC_skb_store_bytes);
  code.jump_if(r0, Compare::not_equal, 0, impossible);
  code.load(Size::word, r1, r9, priority_at);
  code.store(Size::word, r6, field(offsetof(__sk_buff, priority)), r1);
}

// One packet becomes frame after frame, and a copy of each is sent. The kernel sees to it that the octets of a copy stay what they were. r8: the entry that says
// what is to be sent.
std::vector<bpf_insn> transmit_program(const Descriptor& entries, const Descriptor& itself, int interface_index, std::uint32_t mark, const Bounds& bounds) {
  Assembler code;
  const Label end = code.label();
  code.copy(r6, r1);
  code.set(r1, static_cast<std::int32_t>(mark));
  code.store(Size::word, r6, field(offsetof(__sk_buff, mark)), r1);
  code.store(Size::word, frame_pointer, key_on_stack, static_cast<std::int32_t>(bounds.slots));
  look_up(code, entries, key_on_stack, end);
  code.copy(r8, r0);
  for (std::size_t frame = 0; frame < frames_per_beginning; ++frame) {
    const Label done = code.label();
    code.load(Size::word, r1, r8, next_at);
    code.load(Size::word, r2, r8, end_at);
    code.jump_if(r1, Compare::at_least, r2, end);
    code.store(Size::word, frame_pointer, key_on_stack, r1);
    code.add(r1, 1);
    code.store(Size::word, r8, next_at, r1);
    look_up(code, entries, key_on_stack, end);
    become_frame(code, bounds, done);
    code.copy(r1, r6);
    code.set(r2, interface_index);
    code.set(r3, 0);
    code.call(BPF_FUNC_clone_redirect);
    code.store(Size::word, r9, result_at, r0);
    code.place(done);
  }
  code.copy(r1, r6);
  code.load_map(r2, itself);
  code.set(r3, 0);
  code.call(BPF_FUNC_tail_call);
  code.place(end);
  code.set(r0, 0);
  code.leave();
  return code.finish();
}

std::uint16_t ethertype_of(const OutgoingFrame& frame) noexcept {
  std::uint16_t type;
  std::memcpy(&type, frame.data + offsetof(ethhdr, h_proto), sizeof type);
  return type;
}

// What Linux gives a packet of IPv4 that it forwards, by the type of service of RFC 1349: nothing, cost, throughput (TC_PRIO_BULK), delay (TC_PRIO_INTERACTIVE),
// or delay and throughput (TC_PRIO_INTERACTIVE_BULK). To one of IPv6 it gives none.
std::uint32_t priority_of(const OutgoingFrame& frame) noexcept {
  static constexpr std::array<std::uint8_t, 8> priorities = {0, 0, 2, 2, 6, 6, 4, 4};
  const std::uint8_t* ip = frame.data + frame.link_size;
  return *ip >> 4 == 4 ? priorities[ip[ipv4_at::tos] >> 2 & 7] : 0;
}

}  // namespace

BpfTransmitter::BpfTransmitter(const Device& device, std::uint32_t mark, std::size_t slot_size)
    : slot_size_(slot_size),
      entry_size_(entry_size_for(entry_head + latest_begin, slot_size)),
      namespace_(network_namespace()),
      map_(bpf::make_array("groupvpn_send", static_cast<std::uint32_t>(entry_size_), burst_size + 1)),
      memory_((burst_size + 1) * entry_size_, map_.number(), 0),
      itself_(bpf::make_programs("groupvpn_send", 1)) {
  static_assert(offsetof(Entry, length) == length_at && offsetof(Entry, begin) == begin_at);
  static_assert(offsetof(Entry, priority) == priority_at && offsetof(Entry, result) == result_at);
  if (memory_.octets() == nullptr) throw EngineError(describe_error("BPF map", errno));
  std::array<char, IF_NAMESIZE> name;
  if (if_indextoname(static_cast<unsigned>(device.index), name.data()) == nullptr) throw EngineError(describe_error("no interface of that number", errno));
  if (slot_size > largest_frame) throw EngineError("frames of " + std::to_string(slot_size) + " octets are larger than a program can make them");
  const Bounds bounds{burst_size, entry_head + latest_begin, static_cast<std::uint32_t>(slot_size)};
  program_ = bpf::load(BPF_PROG_TYPE_SCHED_CLS, "groupvpn_send", transmit_program(map_, itself_, device.index, mark, bounds));
  constexpr std::uint32_t first = 0;
  const int number = program_.number();
  bpf::set_entry(itself_, &first, &number);
  bpf::run(program_, std::array<std::uint8_t, smallest_sample>{});  // it sends nothing, but may we?
}

// The kernel takes the ethertype of a packet from the frame that the program is run with, and the network namespace from the thread.
bool BpfTransmitter::send(std::span<OutgoingFrame> frames) noexcept {
  if (!is_checked_ && network_namespace() != namespace_) return false;
  is_checked_ = true;
  while (!frames.empty()) {
    const std::uint16_t type = ethertype_of(frames.front());
    const auto other = std::ranges::find_if(frames, [type](const OutgoingFrame& frame) { return ethertype_of(frame) != type; });
    const auto count = static_cast<std::size_t>(other - frames.begin());
    if (!send_alike(frames.first(count))) return false;
    frames = frames.subspan(count);
  }
  return true;
}

bool BpfTransmitter::send_alike(std::span<OutgoingFrame> frames) noexcept {
  const std::uint32_t first = frames.front().slot, end = frames.back().slot + 1U;
  for (std::uint32_t index = first; index < end; ++index) entry(index).length = 0;
  std::size_t sample_size = smallest_sample;
  for (const OutgoingFrame& frame : frames) {
    const auto begin = frame.data - reinterpret_cast<std::uint8_t*>(&entry(frame.slot));
    entry(frame.slot) = {frame.length, static_cast<std::uint32_t>(begin), priority_of(frame), -ENODATA};
    sample_size = std::max<std::size_t>(sample_size, frame.length);
  }
  entry(burst_size) = {first, end, 0, 0};
  sample_size = std::min({sample_size, slot_size_, largest_sample});  // which may be more than the first frame has, but is ours
  if (!bpf::try_run(program_, {frames.front().data, sample_size})) return false;
  for (OutgoingFrame& frame : frames) frame.is_sent = entry(frame.slot).result == 0;
  return entry(frames.back().slot).result != no_interface;
}

}  // namespace groupvpn
