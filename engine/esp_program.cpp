#include "esp_program.hpp"

#include <linux/if_ether.h>
#include <linux/if_packet.h>

#include <cstddef>
#include <cstring>

#include "bpf.hpp"
#include "frame_ring.hpp"
#include "packet.hpp"

namespace groupvpn {
namespace {

using namespace bpf;
using namespace ring_program;
using Label = Assembler::Label;

constexpr std::uint32_t seen_of_esp = esp_header_size + 4;  // and the beginning of the IV
constexpr std::int32_t shortest_frame = static_cast<std::int32_t>(ETH_HLEN + ipv4_header_size + seen_of_esp);

// Words on the stack.
constexpr std::int16_t addresses_on_stack = first_free - 4, spi_on_stack = first_free - 8, sender_on_stack = first_free - 12,
                       other_on_stack = first_free - 16, key_on_stack = first_free - 20, source_on_stack = first_free - 28;

// What is looked at of a packet with an IP header of one version: all of the addresses of IPv4, the ends of those of IPv6.
struct Places {
  std::int16_t protocol, source, destination, payload;
};
constexpr Places ipv4_places = {ip_field(ipv4_at::protocol), ip_field(ipv4_at::source), ip_field(ipv4_at::destination),
                                ip_field(ipv4_header_size)};
constexpr Places ipv6_places = {ip_field(ipv6_at::next_header), ip_field(ipv6_at::destination - 4), ip_field(ipv6_header_size - 4),
                                ip_field(ipv6_header_size)};

// r0: the spread of an SA. Leaves on the stack which of `count` rings its packet has. The upper half of a product is spread evenly.
void choose_ring(Assembler& code, std::uint32_t count) {
  const Label is_chosen = code.label();
  code.load(Size::octet, r2, r0, 0);
  code.load(Size::word, r1, frame_pointer, addresses_on_stack);
  code.jump_if(r2, Compare::equal, static_cast<std::int32_t>(Spread::by_addresses), is_chosen);
  code.load(Size::word, r1, frame_pointer, spi_on_stack);
  code.jump_if(r2, Compare::not_equal, static_cast<std::int32_t>(Spread::by_sender), is_chosen);
  code.load(Size::word, r3, frame_pointer, sender_on_stack);
  code.exclusive_or32(r1, r3);
  code.place(is_chosen);
  code.multiply32(r1, static_cast<std::int32_t>(0x9e3779b1));
  code.shift_right32(r1, 16);
  code.multiply32(r1, static_cast<std::int32_t>(count));
  code.shift_right32(r1, 16);
  code.store(Size::word, frame_pointer, ring_on_stack, r1);
}

// r2: the frame, r3: the end of what is seen of it. Leaves on the stack what a ring may be chosen by.
void read_esp(Assembler& code, const Places& places, Label pass) {
  const std::int32_t needed = places.payload + static_cast<std::int32_t>(seen_of_esp);
  see(code, needed, needed, pass);
  code.load(Size::octet, r1, r2, places.protocol);
  code.jump_if(r1, Compare::not_equal, protocol_esp, pass);
  code.load(Size::word, r1, r2, places.payload);
  code.store(Size::word, frame_pointer, spi_on_stack, r1);
  code.load(Size::word, r1, r2, field(places.payload + esp_header_size));
  code.store(Size::word, frame_pointer, sender_on_stack, r1);
  code.load(Size::word, r1, r2, places.source);
  code.load(Size::word, r4, r2, places.destination);
  code.exclusive_or32(r1, r4);
  code.store(Size::word, frame_pointer, addresses_on_stack, r1);
}

// Options would make the place of the SPI a variable, which the verifier allows with CAP_PERFMON only.
void read_ipv4(Assembler& code, Label pass) {
  read_esp(code, ipv4_places, pass);
  code.load(Size::half, r1, r2, ip_field(ipv4_at::fragment));
  code.jump_if(r1, Compare::has_bits, in_packet(Ipv4::more_fragments | Ipv4::offset_mask), pass);
  code.load(Size::octet, r1, r2, ip_field(0));
  code.jump_if(r1, Compare::not_equal, 0x45, pass);
}

std::int32_t beginning_of(const MacAddress& token) noexcept {
  std::int32_t first;
  static_assert(sizeof first == token_prefix_size);
  std::memcpy(&first, token.data(), sizeof first);
  return first;
}

void pass_if_from(Assembler& code, const MacAddress& token, Label pass) {
  code.load(Size::word, r1, r2, ETH_ALEN);
  code.jump_if32(r1, Compare::equal, beginning_of(token), pass);
}

// r6: the packet. Leaves its octets in r8, and what `read_esp` leaves.
void read_packet(Assembler& code, const MacAddress& token, std::uint32_t longest, Label pass) {
  const Label is_ipv4 = code.label(), is_read = code.label();
  code.load(Size::word, r1, r6, field(offsetof(__sk_buff, pkt_type)));
  code.jump_if(r1, Compare::at_least, PACKET_OTHERHOST, pass);  // host, broadcast and multicast come before it
  find_frame(code, Tags::of_a_vlan, shortest_frame, longest, is_ipv4, pass);
  read_esp(code, ipv6_places, pass);
  code.jump(is_read);
  code.place(is_ipv4);
  read_ipv4(code, pass);
  code.place(is_read);
  pass_if_from(code, token, pass);
}

// r6: a packet that is in the ring, r7: the control, r8: octets of the frame that were copied. Makes a WakeUp of it. Jumps if the TAP took
// that. (Where it stands in pages and there is no memory, or a checksum is still to be written, it stays long: that does no harm.)
void send_wake_up(Assembler& code, int tap, const MacAddress& token, Label is_sent) {
  // NET_XMIT_CN, where the TAP is down; NET_XMIT_DROP, 1, where it is full. Errors are negative, and count nowhere.
  constexpr std::int32_t congested = 2;
  const Label is_short = code.label(), is_refused = code.label();
  code.jump_if(r8, Compare::at_most, WakeUp::size, is_short);
  code.copy(r1, r6);
  code.set(r2, WakeUp::size);
  code.set(r3, 0);
  code.call(BPF_FUNC_skb_change_tail);
  code.place(is_short);
  code.store(Size::word, frame_pointer, source_on_stack, beginning_of(token));
  code.load(Size::word, r1, frame_pointer, ring_on_stack);
  code.store(Size::half, frame_pointer, source_on_stack + WakeUp::ring_at, r1);
  code.copy(r1, r6);
  code.set(r2, ETH_ALEN);
  code.copy(r3, frame_pointer);
  code.add(r3, source_on_stack);
  code.set(r4, ETH_ALEN);
  code.set(r5, 0);
  code.call(BPF_FUNC_skb_store_bytes);
  code.jump_if(r0, Compare::not_equal, 0, is_refused);
  code.copy(r1, r6);
  code.set(r2, tap);
  code.set(r3, 0);
  code.call(BPF_FUNC_clone_redirect);
  code.jump_if(r0, Compare::equal, 0, is_sent);
  code.jump_if(r0, Compare::greater, congested, is_refused);
  code.set(r1, 1);
  code.add_atomically(r7, RingLayout::lost_wake_ups, r1);
  code.place(is_refused);
}

// Jumps if the bell was rung.
void ring_bell(Assembler& code, const Descriptor& bells, Label is_rung) {
  constexpr std::int32_t force_wakeup = BPF_RB_FORCE_WAKEUP, message_size = 4;
  look_up(code, bells, ring_on_stack, is_rung);  // never misses, but the verifier does not know
  code.copy(r1, r0);
  code.copy(r2, frame_pointer);
  code.add(r2, ring_on_stack);  // the message means nothing
  code.set(r3, message_size);
  code.set(r4, force_wakeup);
  code.call(BPF_FUNC_ringbuf_output);
  code.jump_if(r0, Compare::equal, 0, is_rung);
}

// If the ring rests, its thread is woken, and the ring rests no more. Of several that see it rest one wakes the thread. If it cannot, the
// next packet tries again.
void wake_thread(Assembler& code, const Descriptor& bells, const MacAddress& token, int tap) {
  const Label is_awake = code.label();
  code.load(Size::word, r1, r7, RingLayout::resting);
  code.jump_if(r1, Compare::equal, 0, is_awake);
  code.copy(r0, r1);
  code.set(r2, 0);
  code.exchange_if_equal(r7, RingLayout::resting, r2);
  code.jump_if32(r0, Compare::not_equal, r1, is_awake);
  if (tap != 0) send_wake_up(code, tap, token, is_awake);
  ring_bell(code, bells, is_awake);
  code.load(Size::word, r1, r7, RingLayout::mark);
  code.store(Size::word, r7, RingLayout::resting, r1);
  code.place(is_awake);
}

// Where a packet goes whose queue is chosen: to the first one, by its addresses alone, or by what was read of its SA.
struct QueueWays {
  Label first, by_addresses, is_read;
};

// r6: the packet. Leaves a word of it on the stack. No more can be said of it than that it may be too short: then it is of no SA.
void take_word(Assembler& code, std::int16_t from, std::int16_t to, Label too_short) {
  code.copy(r1, r6);
  code.set(r2, from);
  code.copy(r3, frame_pointer);
  code.add(r3, to);
  code.set(r4, 4);
  code.call(BPF_FUNC_skb_load_bytes);
  code.jump_if(r0, Compare::not_equal, 0, too_short);
}

// r6: a packet with an IP header of one version. Leaves its addresses on the stack and, as far as it has them, SPI and beginning of the IV.
// Jumps to one of `ways`.
void read_for_queue(Assembler& code, const Places& places, const QueueWays& ways) {
  const Label is_udp = code.label(), is_ah = code.label();
  take_word(code, places.source, addresses_on_stack, ways.first);
  take_word(code, places.destination, other_on_stack, ways.first);
  code.load(Size::word, r1, frame_pointer, addresses_on_stack);
  code.load(Size::word, r2, frame_pointer, other_on_stack);
  code.exclusive_or32(r1, r2);
  code.store(Size::word, frame_pointer, addresses_on_stack, r1);
  if (places.payload == ipv4_places.payload) {  // of IPv6 fragments the protocol is another one
    take_word(code, ip_field(ipv4_at::identification), other_on_stack, ways.first);
    code.load(Size::half, r1, frame_pointer, other_on_stack + 2);
    code.jump_if(r1, Compare::has_bits, in_packet(Ipv4::more_fragments | Ipv4::offset_mask), ways.by_addresses);
  }
  take_word(code, places.protocol, other_on_stack, ways.first);  // and three octets behind it
  code.load(Size::octet, r7, frame_pointer, other_on_stack);
  code.jump_if(r7, Compare::equal, protocol_udp, is_udp);
  code.jump_if(r7, Compare::equal, protocol_ah, is_ah);
  code.jump_if(r7, Compare::not_equal, protocol_esp, ways.by_addresses);
  take_word(code, places.payload, spi_on_stack, ways.first);
  take_word(code, field(places.payload + esp_header_size), sender_on_stack, ways.first);
  code.jump(ways.is_read);
  code.place(is_udp);
  take_word(code, field(places.payload + udp_header_size), spi_on_stack, ways.first);
  take_word(code, field(places.payload + udp_header_size + esp_header_size), sender_on_stack, ways.first);
  code.jump(ways.is_read);
  code.place(is_ah);
  take_word(code, field(places.payload + ah_at::spi), spi_on_stack, ways.first);
  code.jump(ways.is_read);
}

}  // namespace

// r6: the packet, r7: the control, r8: octets of the frame.
std::vector<bpf_insn> esp_program(const EspProgramMaps& maps, const MacAddress& token, std::uint32_t longest, std::uint32_t rings, int tap) {
  static_assert(RingLayout::frame_offset + ETH_HLEN == RingLayout::ip_offset);
  Assembler code;
  const Ways ways = ways_of(code);
  code.copy(r6, r1);
  read_packet(code, token, longest, ways.pass);
  look_up(code, maps.spis, spi_on_stack, ways.pass);
  choose_ring(code, rings);
  find_control(code, maps.rings.controls, ways.pass);
  claim_record(code, maps.rings, ways);
  copy_frame(code);
  finish_record(code, RingLayout::filled);
  wake_thread(code, maps.bells, token, tap);
  end_here(code);
  write_ends(code, ways);
  return code.finish();
}

std::vector<bpf_insn> queue_program(const Descriptor& spis, const MacAddress& token, std::uint32_t queues) {
  Assembler code;
  const QueueWays ways{.first = code.label(), .by_addresses = code.label(), .is_read = code.label()};
  const Label is_packet = code.label(), is_ipv4 = code.label(), is_chosen = code.label();
  code.copy(r6, r1);
  take_word(code, ETH_ALEN, other_on_stack, ways.first);
  code.load(Size::word, r1, frame_pointer, other_on_stack);
  code.jump_if32(r1, Compare::not_equal, beginning_of(token), is_packet);
  take_word(code, ETH_ALEN + WakeUp::ring_at, other_on_stack, ways.first);
  code.load(Size::half, r0, frame_pointer, other_on_stack);
  code.leave();
  code.place(is_packet);
  code.store(Size::word, frame_pointer, sender_on_stack, 0);
  code.load(Size::word, r1, r6, field(offsetof(__sk_buff, protocol)));
  code.jump_if(r1, Compare::equal, in_packet(ETH_P_IP), is_ipv4);
  read_for_queue(code, ipv6_places, ways);
  code.place(is_ipv4);
  read_for_queue(code, ipv4_places, ways);
  code.place(ways.by_addresses);
  code.store(Size::word, frame_pointer, key_on_stack, static_cast<std::int32_t>(Spread::by_addresses));
  code.copy(r0, frame_pointer);
  code.add(r0, key_on_stack);
  choose_ring(code, queues);
  code.jump(is_chosen);
  code.place(ways.is_read);
  look_up(code, spis, spi_on_stack, ways.first);
  choose_ring(code, queues);
  code.place(is_chosen);
  code.load(Size::word, r0, frame_pointer, ring_on_stack);
  code.leave();
  code.place(ways.first);
  code.set(r0, 0);
  code.leave();
  return code.finish();
}

}  // namespace groupvpn
