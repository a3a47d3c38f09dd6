#include "tap_program.hpp"

#include <cstddef>

#include "packet.hpp"

namespace groupvpn {
namespace {

using namespace bpf;
using namespace ring_program;
using Label = Assembler::Label;

constexpr std::int16_t checksum_size = 2;
constexpr std::int32_t shortest_frame = static_cast<std::int32_t>(ETH_HLEN + ipv4_header_size + udp_header_size);

// Words on the stack: where the checksum is, what it was and is now, and what it was if it is that of the pseudo header alone.
constexpr std::int16_t place_on_stack = first_free - 4, before_on_stack = first_free - 8, after_on_stack = first_free - 12,
                       pseudo_on_stack = first_free - 16;

// r0: a hash of 32 bits, of which the upper half of a product is spread evenly.
void choose(Assembler& code, std::uint32_t count) {
  code.multiply(r0, static_cast<std::int32_t>(count));
  code.shift_right(r0, 32);
}

// r2: the frame, r1: a part of the sum of the pseudo header. Leaves the rest of what is known of the checksum on the stack.
void read_checksum(Assembler& code, std::int16_t transport, std::int16_t at, std::uint8_t protocol) {
  code.load(Size::half, r4, r2, field(static_cast<std::size_t>(transport + at)));
  code.store(Size::word, frame_pointer, before_on_stack, r4);
  code.store(Size::word, frame_pointer, place_on_stack, transport + at);
  code.add(r1, in_packet(protocol));
}

// r2: the frame, which is seen to the end of the checksum of UDP, r3: the end of what is seen. Sums the pseudo header (RFC 9293 3.1, RFC 768,
// RFC 8200 8.1) in whole words, which is the same modulo 2^16 - 1.
void read_transport(Assembler& code, std::int16_t named_at, std::int16_t addresses, std::int16_t transport, Label other) {
  const Label is_tcp = code.label(), is_read = code.label();
  for (std::int16_t word = addresses; word < transport; word = static_cast<std::int16_t>(word + 4)) {
    code.load(Size::word, r4, r2, word);
    code.add(r1, r4);
  }
  code.load(Size::octet, r4, r2, named_at);
  code.jump_if(r4, Compare::equal, protocol_tcp, is_tcp);
  code.jump_if(r4, Compare::not_equal, protocol_udp, other);
  read_checksum(code, transport, udp_at::checksum, protocol_udp);
  code.jump(is_read);
  code.place(is_tcp);
  code.copy(r4, r2);
  code.add(r4, transport + tcp_at::checksum + checksum_size);
  code.jump_if(r4, Compare::greater, r3, other);
  read_checksum(code, transport, tcp_at::checksum, protocol_tcp);
  code.place(is_read);
}

void see_transport(Assembler& code, std::int16_t transport, Label other) {
  see(code, transport + udp_at::checksum + checksum_size, transport + tcp_at::checksum + checksum_size, other);
}

void read_ipv4(Assembler& code, Label other) {
  constexpr std::int16_t transport = ip_field(ipv4_header_size);
  see_transport(code, transport, other);
  code.load(Size::octet, r4, r2, ip_field(0));
  code.jump_if(r4, Compare::not_equal, 0x45, other);
  code.load(Size::half, r4, r2, ip_field(ipv4_at::fragment));
  code.jump_if(r4, Compare::has_bits, in_packet(Ipv4::more_fragments | Ipv4::offset_mask), other);
  code.load(Size::half, r1, r2, ip_field(ipv4_at::total_length));
  code.add(r1, 0xffff - in_packet(ipv4_header_size));  // the total length less the header
  read_transport(code, ip_field(ipv4_at::protocol), ip_field(ipv4_at::source), transport, other);
}

void read_ipv6(Assembler& code, Label other) {
  constexpr std::int16_t transport = ip_field(ipv6_header_size);
  see_transport(code, transport, other);
  code.load(Size::half, r1, r2, ip_field(ipv6_at::payload_length));
  read_transport(code, ip_field(ipv6_at::next_header), ip_field(ipv6_at::source), transport, other);
}

// r1: a sum of words. Folds it to 16 bits.
void fold(Assembler& code) {
  code.copy32(r2, r1);
  code.shift_right(r1, 32);
  code.add(r1, r2);
  for (int turn = 0; turn < 3; ++turn) {
    code.copy(r2, r1);
    code.mask32(r2, 0xffff);
    code.shift_right(r1, 16);
    code.add(r1, r2);
  }
}

// r6: the packet. Leaves its octets in r8.
void read_packet(Assembler& code, std::uint32_t longest, Label other) {
  const Label is_ipv4 = code.label(), is_read = code.label();
  code.load(Size::word, r1, r6, field(offsetof(__sk_buff, gso_size)));
  code.jump_if(r1, Compare::not_equal, 0, other);
  find_frame(code, Tags::any, shortest_frame, longest, is_ipv4, other);
  read_ipv6(code, other);
  code.jump(is_read);
  code.place(is_ipv4);
  read_ipv4(code, other);
  code.place(is_read);
  fold(code);
  code.store(Size::word, frame_pointer, pseudo_on_stack, r1);
}

// The kernel does not say whether it has left a checksum to whoever sends the packet, nor which: it may be one further inside. But it changes a
// checksum that is complete and leaves one that is not (bpf-helpers(7), bpf_l4_csum_replace). What is in the ring by now does not change.
// Jumps if nothing is left to do or, to `untaken`, if what is left is not the checksum that we know.
void ask_for_checksum(Assembler& code, Label is_complete, Label untaken) {
  constexpr std::int32_t one = 1;
  code.copy(r1, r6);
  code.load(Size::word, r2, frame_pointer, place_on_stack);
  code.set(r3, 0);
  code.set(r4, one);
  code.set(r5, checksum_size);
  code.call(BPF_FUNC_l4_csum_replace);
  code.jump_if(r0, Compare::not_equal, 0, untaken);
  code.copy(r1, r6);
  code.load(Size::word, r2, frame_pointer, place_on_stack);
  code.copy(r3, frame_pointer);
  code.add(r3, after_on_stack);
  code.set(r4, checksum_size);
  code.store(Size::word, frame_pointer, after_on_stack, 0);
  code.call(BPF_FUNC_skb_load_bytes);
  code.load(Size::word, r1, frame_pointer, before_on_stack);
  code.load(Size::word, r2, frame_pointer, after_on_stack);
  code.jump_if(r1, Compare::not_equal, r2, is_complete);
  code.load(Size::word, r2, frame_pointer, pseudo_on_stack);
  code.jump_if(r1, Compare::not_equal, r2, untaken);
}

}  // namespace

std::vector<bpf_insn> tap_program(const RingMaps& maps, std::uint32_t longest, std::uint32_t rings, std::uint32_t queue) {
  Assembler code;
  const Ways ways = ways_of(code);
  const Label other = code.label(), untaken = code.label(), is_complete = code.label();
  code.copy(r6, r1);
  code.set(r0, 0);
  if (rings > 1) {
    code.call(BPF_FUNC_get_hash_recalc);
    choose(code, rings);
  }
  code.store(Size::word, frame_pointer, ring_on_stack, r0);
  find_control(code, maps.controls, ways.pass);
  jump_if_resting(code, ways.resting);
  read_packet(code, longest, other);
  claim_record(code, maps, ways);
  jump_if_resting(code, ways.skip);
  copy_frame(code);
  code.add32(r8, static_cast<std::int32_t>(queue << 16));
  ask_for_checksum(code, is_complete, untaken);
  finish_record(code, RingLayout::incomplete);
  end_here(code);
  code.place(is_complete);
  finish_record(code, RingLayout::filled);
  end_here(code);
  code.place(untaken);
  code.store(Size::word, r9, RingLayout::state, RingLayout::left);
  code.place(other);
  code.load(Size::word, r1, r7, RingLayout::mark);
  code.store(Size::word, r7, RingLayout::resting, r1);
  code.place(ways.resting);
  code.copy(r3, r1);
  code.copy(r1, r6);
  code.set(r2, in_packet(RiseMark::ethertype));
  code.call(BPF_FUNC_skb_vlan_push);
  code.jump(ways.pass);
  write_ends(code, ways);
  return code.finish();
}

std::vector<bpf_insn> flow_queue_program(std::uint32_t queues) {
  Assembler code;
  code.load(Size::word, r0, r1, field(offsetof(__sk_buff, hash)));
  choose(code, queues);
  code.leave();
  return code.finish();
}

}  // namespace groupvpn
