#include "ring_program.hpp"

namespace groupvpn::ring_program {
namespace {

using namespace bpf;
using Layout = RingLayout;
using Label = Assembler::Label;

constexpr int attempts = 4;  // to claim a record, while other processors do the same

// Leaves the position of the record in r9. The ring is full only if it is so for one moment: the consumer may have gone past a producer that we have
// looked at before others moved it.
void claim_octets(Assembler& code, std::uint32_t ring_size, Label full) {
  const Label claimed = code.label();
  code.copy32(r3, r8);
  code.add32(r3, static_cast<std::int32_t>(Layout::frame_offset + Layout::alignment - 1));
  code.mask32(r3, -static_cast<std::int32_t>(Layout::alignment));
  code.store(Size::word, frame_pointer, size_on_stack, r3);
  for (int attempt = 0; attempt < attempts; ++attempt) {
    const Label has_room = code.label(), next = code.label();
    code.load(Size::word, r9, r7, Layout::producer);
    code.load(Size::word, r1, r7, Layout::consumer);
    code.copy(r2, r9);
    code.add32(r2, r3);
    code.copy(r4, r2);
    code.subtract32(r4, r1);
    code.jump_if32(r4, Compare::at_most, static_cast<std::int32_t>(ring_size), has_room);
    code.load(Size::word, r0, r7, Layout::producer);
    code.jump_if32(r0, Compare::equal, r9, full);
    code.jump(next);
    code.place(has_room);
    code.copy(r0, r9);
    code.exchange_if_equal(r7, Layout::producer, r2);
    code.jump_if32(r0, Compare::equal, r9, claimed);
    code.place(next);
  }
  code.jump(full);
  code.place(claimed);
}

// Leaves the address of the claimed record in r9, with its size.
void find_record(Assembler& code, const RingMaps& maps, Label pass) {
  code.mask32(r9, static_cast<std::int32_t>(maps.size - Layout::alignment));
  look_up(code, maps.records, ring_on_stack, pass);  // never misses, but the verifier does not know
  code.add(r0, r9);
  code.copy(r9, r0);
  code.load(Size::word, r1, frame_pointer, size_on_stack);
  code.store(Size::word, r9, Layout::size, r1);
}

// r6: the packet. Leaves in r2 and r3 where what a program sees of it begins and ends.
void find_seen(Assembler& code) {
  code.load(Size::word, r2, r6, field(offsetof(__sk_buff, data)));
  code.load(Size::word, r3, r6, field(offsetof(__sk_buff, data_end)));
}

}  // namespace

void look_up(Assembler& code, const Descriptor& map, std::int16_t key, Label missing) {
  code.load_map(r1, map);
  code.copy(r2, frame_pointer);
  code.add(r2, key);
  code.call(BPF_FUNC_map_lookup_elem);
  code.jump_if(r0, Compare::equal, 0, missing);
}

Ways ways_of(Assembler& code) { return {.full = code.label(), .skip = code.label(), .resting = code.label(), .pass = code.label()}; }

void find_control(Assembler& code, const Descriptor& controls, Label missing) {
  look_up(code, controls, ring_on_stack, missing);
  code.copy(r7, r0);
}

void jump_if_resting(Assembler& code, Label resting) {
  code.load(Size::word, r1, r7, Layout::resting);
  code.jump_if(r1, Compare::not_equal, 0, resting);
}

void find_frame(Assembler& code, Tags tags, std::int32_t shortest, std::uint32_t longest, Label ipv4, Label other) {
  code.load(Size::word, r1, r6, field(offsetof(__sk_buff, vlan_present)));
  if (tags == Tags::any) {
    code.jump_if(r1, Compare::not_equal, 0, other);
  } else {
    const Label is_untagged = code.label();
    code.jump_if(r1, Compare::equal, 0, is_untagged);
    code.load(Size::word, r1, r6, field(offsetof(__sk_buff, vlan_tci)));
    code.jump_if(r1, Compare::has_bits, 0xfff, other);
    code.place(is_untagged);
  }
  code.load(Size::word, r8, r6, field(offsetof(__sk_buff, len)));
  code.jump_if(r8, Compare::greater, static_cast<std::int32_t>(longest), other);
  code.jump_if(r8, Compare::less, shortest, other);
  find_seen(code);
  code.load(Size::word, r1, r6, field(offsetof(__sk_buff, protocol)));
  code.jump_if(r1, Compare::equal, in_packet(ETH_P_IP), ipv4);
  code.jump_if(r1, Compare::not_equal, in_packet(ETH_P_IPV6), other);
}

void see(Assembler& code, std::int32_t enough, std::int32_t most, Label other) {
  const Label is_seen = code.label(), brings = code.label();
  code.copy(r4, r2);
  code.add(r4, most);
  code.jump_if(r3, Compare::at_least, r4, is_seen);
  code.set(r1, most);
  code.jump_if(r8, Compare::at_least, most, brings);
  code.jump_if(r8, Compare::less, enough, other);
  code.copy(r4, r2);
  code.add(r4, enough);
  code.jump_if(r3, Compare::at_least, r4, is_seen);
  code.copy(r1, r8);
  code.place(brings);
  code.copy(r2, r1);
  code.copy(r1, r6);
  code.call(BPF_FUNC_skb_pull_data);
  find_seen(code);
  code.copy(r4, r2);
  code.add(r4, enough);
  code.jump_if(r4, Compare::greater, r3, other);
  code.place(is_seen);
}

void claim_record(Assembler& code, const RingMaps& maps, const Ways& ways) {
  claim_octets(code, maps.size, ways.full);
  find_record(code, maps, ways.pass);
}

void copy_frame(Assembler& code) {
  const Label is_copied = code.label();
  code.copy(r1, r6);
  code.set(r2, 0);
  code.copy(r3, r9);
  code.add(r3, Layout::frame_offset);
  code.copy(r4, r8);
  code.call(BPF_FUNC_skb_load_bytes);
  code.jump_if(r0, Compare::equal, 0, is_copied);
  code.set(r8, 0);
  code.place(is_copied);
}

void finish_record(Assembler& code, Layout::State state) {
  code.store(Size::word, r9, Layout::length, r8);
  code.store(Size::word, r9, Layout::state, static_cast<std::int32_t>(state));  // behind all that it speaks of: stores stay in their order on x86-64
}

void end_here(Assembler& code) {
  code.set(r0, ends_here);
  code.leave();
}

void write_ends(Assembler& code, const Ways& ways) {
  code.place(ways.skip);
  code.store(Size::word, r9, Layout::state, Layout::left);
  code.jump(ways.resting);
  code.place(ways.pass);
  code.set(r0, goes_on);
  code.leave();
  code.place(ways.full);
  code.set(r1, 1);
  code.add_atomically(r7, Layout::overruns, r1);
  code.set(r0, ends_here);
  code.leave();
}

}  // namespace groupvpn::ring_program
