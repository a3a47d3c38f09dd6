// What BPF programs have in common that fill rings in memory which the engine shares: how a ring lies there, and the instructions that
// claim a part of it.
#pragma once

#include <linux/if_ether.h>

#include <cstddef>
#include <cstdint>

#include "bpf.hpp"
#include "descriptor.hpp"

namespace groupvpn {

// The memory of some rings: an entry of each map for each ring.
struct RingMaps {
  const Descriptor& controls;
  const Descriptor& records;
  std::uint32_t size;  // octets of a ring; a power of two
};

// A ring is a number of octets in which records stand one behind the other. Positions count octets for ever; the place of a record is its
// position modulo the size of the ring. A record lies in one piece, so behind the end of the ring there is room for another one.
struct RingLayout {
  // A control. The program claims a record by moving the producer on, we give records back by moving the consumer on. `resting` is 0 or,
  // while the ring rests, the `mark` that it had when it rose the last time; a program that has the ring rest by itself writes it there.
  // `lost_wake_ups`: how many WakeUps (esp_program.hpp) the TAP dropped.
  static constexpr std::int16_t producer = 0, resting = 64, mark = 68, lost_wake_ups = 72, consumer = 128, overruns = 192;
  static constexpr std::uint32_t control_size = 256;

  // A record: its state, how many octets the frame has (0: not all of it could be copied), how many the record has, and the frame, whose IP
  // header begins a cache line. Wherever a record may begin there is `unfilled` until one is written.
  static constexpr std::int16_t state = 0, length = 4, size = 8, ip_offset = 64, frame_offset = 50;
  static constexpr std::uint32_t header_size = 12, alignment = 64;
  enum State : std::uint32_t {
    unfilled = 0,
    filled = 1,
    left = 2,        // claimed in vain, the packet went another way
    incomplete = 3,  // filled, and the checksum of TCP or UDP is still that of the pseudo header alone
  };

  static constexpr std::uint32_t size_for(std::uint32_t frame) noexcept { return (frame_offset + frame + alignment - 1) / alignment * alignment; }
};

namespace ring_program {

// Words on the stack; programs have theirs below `first_free`.
inline constexpr std::int16_t ring_on_stack = -4, size_on_stack = -8, first_free = -8;

// r0 of a program at an interface.
enum Verdict : std::int32_t { goes_on = -1, ends_here = 2 };  // TCX_NEXT, TCX_DROP

// A value as a load of that size reads it from a packet, and where a field of a frame lies.
constexpr std::int32_t in_packet(std::uint16_t value) noexcept { return __builtin_bswap16(value); }
constexpr std::int16_t field(std::size_t offset) noexcept { return static_cast<std::int16_t>(offset); }
constexpr std::int16_t ip_field(std::size_t offset) noexcept { return static_cast<std::int16_t>(ETH_HLEN + offset); }

// Looks up the word at a place on the stack; jumps if the map does not have it, else r0 is the address of what it has.
void look_up(bpf::Assembler& code, const Descriptor& map, std::int16_t key, bpf::Assembler::Label missing);

// The control of the ring whose number is on the stack, in r7; jumps if there is none.
void find_control(bpf::Assembler& code, const Descriptor& controls, bpf::Assembler::Label missing);

// r7: the control. Jumps if the ring rests, with what `resting` is then in r1.
void jump_if_resting(bpf::Assembler& code, bpf::Assembler::Label resting);

// Tags that make a frame somebody else's. One that names no VLAN is none for the kernel where a frame arrives (IEEE 802.1Q 6.9).
enum class Tags { any, of_a_vlan };

// In: r6, the packet. Out: r8, the octets of its frame; r2 and r3, begin and end of the part of it that a program can read directly. Falls
// through for IPv6, and jumps to `ipv4` for that; to `other` for what is neither, has such a tag, or has not `shortest` to `longest` octets.
void find_frame(bpf::Assembler& code, Tags tags, std::int32_t shortest, std::uint32_t longest, bpf::Assembler::Label ipv4,
                bpf::Assembler::Label other);

// As `find_frame` leaves it: r6, r8, r2 and r3. Jumps to `other` unless the program sees `enough` octets of the frame. What lies in pages,
// of which a program sees nothing, is brought to where it does: of a frame that has them `most` octets. That takes a call, which leaves r6
// to r9 alone, and frames in one piece do without.
void see(bpf::Assembler& code, std::int32_t enough, std::int32_t most, bpf::Assembler::Label other);

struct Ways {
  bpf::Assembler::Label full, skip, resting, pass;
};

Ways ways_of(bpf::Assembler& code);

// r6: the packet, r7: the control, r8: octets of the frame, at least some and no more than there is room for behind the end of a ring.
// `claim_record` leaves the address of a record in r9, to which only we may write then, and jumps to `full` if there is no room for one;
// `copy_frame` copies the frame into it. If `resting` is looked at behind the claim, either we see that the ring rests or our thread sees
// the claim (SharedRing::rest).
void claim_record(bpf::Assembler& code, const RingMaps& maps, const Ways& ways);
void copy_frame(bpf::Assembler& code);

// A frame that was copied gets its state.
void finish_record(bpf::Assembler& code, RingLayout::State state);

// The ends of a program. A packet that was copied ends. One whose record was claimed in vain (`skip`, with r9, and r1 as for `resting`)
// goes where those go that find the ring resting; what passes goes on, and what found the ring full ends.
void end_here(bpf::Assembler& code);
void write_ends(bpf::Assembler& code, const Ways& ways);

}  // namespace ring_program
}  // namespace groupvpn
