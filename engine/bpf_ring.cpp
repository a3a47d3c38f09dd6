#include "bpf_ring.hpp"

#include <linux/if_ether.h>
#include <linux/if_packet.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <iterator>

#include "error.hpp"
#include "packet.hpp"

namespace groupvpn {
namespace {

using namespace bpf;

// What both sides share beside the slots, each on a cache line of its own. Producer and consumer count slots; the program claims a slot by counting
// the producer up, we give slots back by counting the consumer up.
enum Control : std::int16_t { producer = 0, resting = 64, consumer = 128, overrun_count = 192, control_size = 256 };

// A slot: whether it is filled, how many octets the frame has, and the frame, whose IP header begins a cache line.
enum Slot : std::int16_t { state = 0, length = 4, slot_header_size = 8, ip_offset = 64, frame_offset = ip_offset - ETH_HLEN };
enum State : std::int32_t { unfilled = 0, filled = 1, left = 2 };  // left: claimed in vain, the packet went another way

enum Verdict : std::int32_t { go_on = -1, end_here = 2 };  // TCX_NEXT, TCX_DROP

constexpr std::uint32_t attempts = 4;  // to claim a slot, while other processors do the same
constexpr std::int32_t shortest_frame = ETH_HLEN + static_cast<std::int32_t>(ipv4_header_size) + 4;

// An odd number of cache lines, so that the headers of frames do not compete for the same sets.
std::uint32_t slot_size_for(std::uint32_t mtu) { return ((ip_offset + std::max(mtu, 1500U) + 63) / 64 | 1) * 64; }

// A value as a load of that size reads it from a packet.
constexpr std::int32_t in_packet(std::uint16_t value) noexcept { return __builtin_bswap16(value); }

constexpr std::int16_t field(std::size_t offset) noexcept { return static_cast<std::int16_t>(offset); }
constexpr std::int16_t ip_field(std::int16_t offset) noexcept { return static_cast<std::int16_t>(ETH_HLEN + offset); }

// r2: the frame, r3: its end. Leaves the SPI in r9. Options would make its place a variable, which the verifier allows with CAP_PERFMON only.
void find_ipv4_spi(Assembler& code, Assembler::Label pass) {
  code.copy(r4, r2);
  code.add(r4, shortest_frame);
  code.jump_if(r4, Compare::greater, r3, pass);
  code.load(Size::octet, r1, r2, ip_field(9));
  code.jump_if(r1, Compare::not_equal, protocol_esp, pass);
  code.load(Size::half, r1, r2, ip_field(6));
  code.jump_if(r1, Compare::has_bits, in_packet(Ipv4::more_fragments | Ipv4::offset_mask), pass);
  code.load(Size::octet, r1, r2, ip_field(0));
  code.jump_if(r1, Compare::not_equal, 0x45, pass);
  code.load(Size::word, r9, r2, ip_field(static_cast<std::int16_t>(ipv4_header_size)));
}

void find_ipv6_spi(Assembler& code, Assembler::Label pass) {
  code.copy(r4, r2);
  code.add(r4, ip_field(static_cast<std::int16_t>(ipv6_header_size)) + 4);
  code.jump_if(r4, Compare::greater, r3, pass);
  code.load(Size::octet, r1, r2, ip_field(6));
  code.jump_if(r1, Compare::not_equal, protocol_esp, pass);
  code.load(Size::word, r9, r2, ip_field(static_cast<std::int16_t>(ipv6_header_size)));
}

void pass_if_from(Assembler& code, const MacAddress& token, Assembler::Label pass) {
  std::int32_t first;
  std::uint16_t last;
  std::memcpy(&first, token.data(), sizeof first);
  std::memcpy(&last, token.data() + sizeof first, sizeof last);
  const Assembler::Label other = code.label();
  code.load(Size::word, r1, r2, 6);
  code.jump_if32(r1, Compare::not_equal, first, other);
  code.load(Size::half, r1, r2, 10);
  code.jump_if32(r1, Compare::equal, last, pass);
  code.place(other);
}

// r7: the control. Claims a slot, and leaves its number in r9. Only who counts the producer up may write to the slot.
void claim_slot(Assembler& code, Assembler::Label full) {
  const Assembler::Label claimed = code.label();
  for (std::uint32_t attempt = 0; attempt < attempts; ++attempt) {
    code.load(Size::word, r9, r7, producer);
    code.load(Size::word, r1, r7, consumer);
    code.copy(r2, r9);
    code.subtract32(r2, r1);
    code.jump_if32(r2, Compare::at_least, static_cast<std::int32_t>(BpfRing::slot_count), full);
    code.copy(r0, r9);
    code.copy(r1, r9);
    code.add32(r1, 1);
    code.exchange_if_equal(r7, producer, r1);
    code.jump_if32(r0, Compare::equal, r9, claimed);
  }
  code.jump(full);
  code.place(claimed);
}

// Looks up the word in `key`, which is put on the stack; jumps if the map does not have it, else r0 is the address of what it has.
void look_up(Assembler& code, const Descriptor& map, Register key, Assembler::Label missing) {
  code.store(Size::word, frame_pointer, -4, key);
  code.load_map(r1, map);
  code.copy(r2, frame_pointer);
  code.add(r2, -4);
  code.call(BPF_FUNC_map_lookup_elem);
  code.jump_if(r0, Compare::equal, 0, missing);
}

}  // namespace

BpfRing::BpfRing(const Device& device, const MacAddress& token, std::uint32_t mtu)
    : slot_size_(slot_size_for(mtu)),
      longest_packet_(slot_size_ - ip_offset),
      control_(make_array("groupvpn_ctl", control_size, 1)),
      slots_(make_array("groupvpn_ring", slot_size_, slot_count)),
      spis_(make_hash("groupvpn_spis", sizeof(std::uint32_t), 1, maximum_spis)),
      control_memory_(control_size, control_.number(), 0),
      slots_memory_(std::size_t{slot_size_} * slot_count, slots_.number(), 0) {
  if (control_memory_.octets() == nullptr || slots_memory_.octets() == nullptr) throw EngineError(describe_error("BPF map", errno));
  shared<std::uint32_t>(resting).store(1);
  program_ = load_classifier("groupvpn_esp", program(token));
  link_ = attach_to_ingress(program_, device.index);
}

// r6: the packet, r7: the control, r8: octets of the frame.
std::vector<bpf_insn> BpfRing::program(const MacAddress& token) const {
  static_assert((slot_count & (slot_count - 1)) == 0);
  Assembler code;
  const Assembler::Label pass = code.label(), full = code.label(), skip = code.label(), is_ipv4 = code.label(), has_spi = code.label(),
                         is_copied = code.label();
  code.copy(r6, r1);
  code.load_value(r7, control_);
  code.load(Size::word, r1, r7, resting);
  code.jump_if(r1, Compare::not_equal, 0, pass);
  code.load(Size::word, r1, r6, field(offsetof(__sk_buff, pkt_type)));
  code.jump_if(r1, Compare::at_least, PACKET_OTHERHOST, pass);  // host, broadcast and multicast come before it
  code.load(Size::word, r1, r6, field(offsetof(__sk_buff, vlan_present)));
  code.jump_if(r1, Compare::not_equal, 0, pass);
  code.load(Size::word, r8, r6, field(offsetof(__sk_buff, len)));
  code.jump_if(r8, Compare::greater, static_cast<std::int32_t>(longest_packet_ + ETH_HLEN), pass);
  code.jump_if(r8, Compare::less, shortest_frame, pass);
  code.load(Size::word, r2, r6, field(offsetof(__sk_buff, data)));
  code.load(Size::word, r3, r6, field(offsetof(__sk_buff, data_end)));
  code.load(Size::word, r1, r6, field(offsetof(__sk_buff, protocol)));
  code.jump_if(r1, Compare::equal, in_packet(ETH_P_IP), is_ipv4);
  code.jump_if(r1, Compare::not_equal, in_packet(ETH_P_IPV6), pass);
  find_ipv6_spi(code, pass);
  code.jump(has_spi);
  code.place(is_ipv4);
  find_ipv4_spi(code, pass);
  code.place(has_spi);
  pass_if_from(code, token, pass);
  look_up(code, spis_, r9, pass);
  claim_slot(code, full);
  code.mask32(r9, static_cast<std::int32_t>(slot_count - 1));
  look_up(code, slots_, r9, pass);  // never misses, but the verifier does not know
  code.copy(r9, r0);
  code.load(Size::word, r1, r7, resting);  // again, behind the claim: see `rest`
  code.jump_if(r1, Compare::not_equal, 0, skip);
  code.copy(r1, r6);
  code.set(r2, 0);
  code.copy(r3, r9);
  code.add(r3, frame_offset);
  code.copy(r4, r8);
  code.call(BPF_FUNC_skb_load_bytes);
  code.jump_if(r0, Compare::equal, 0, is_copied);
  code.set(r8, 0);
  code.place(is_copied);
  code.store(Size::word, r9, length, r8);
  code.store(Size::word, r9, state, filled);  // behind all that it speaks of: stores stay in their order on x86-64
  code.set(r0, end_here);
  code.leave();
  code.place(skip);
  code.store(Size::word, r9, state, left);
  code.place(pass);
  code.set(r0, go_on);
  code.leave();
  code.place(full);
  code.set(r1, 1);
  code.add_atomically(r7, overrun_count, r1);
  code.set(r0, end_here);
  code.leave();
  return code.finish();
}

void BpfRing::set_spis(std::span<const std::uint32_t> spis) {
  const std::vector<std::uint32_t> wanted(spis.begin(), spis.end());
  std::vector<std::uint32_t> added, gone;
  std::ranges::set_difference(wanted, taken_spis_, std::back_inserter(added));
  std::ranges::set_difference(taken_spis_, wanted, std::back_inserter(gone));
  const std::uint8_t nothing = 0;
  for (const std::uint32_t spi : added) {
    const std::uint32_t key = __builtin_bswap32(spi);
    set_entry(spis_, &key, &nothing);
  }
  for (const std::uint32_t spi : gone) {
    const std::uint32_t key = __builtin_bswap32(spi);
    delete_entry(spis_, &key);
  }
  taken_spis_ = wanted;
}

std::uint64_t BpfRing::overruns() const noexcept { return shared<std::uint64_t>(overrun_count).load(std::memory_order_relaxed); }

void BpfRing::rise() noexcept { shared<std::uint32_t>(resting).store(0, std::memory_order_release); }

// Either the program sees that we rest when it has claimed a slot, or we see that it has claimed one.
bool BpfRing::rest() noexcept {
  shared<std::uint32_t>(resting).store(1, std::memory_order_seq_cst);
  if (shared<std::uint32_t>(producer).load(std::memory_order_seq_cst) == next_) return true;
  rise();
  return false;
}

std::uint8_t* BpfRing::slot(std::uint32_t ahead) const noexcept {
  return slots_memory_.octets() + std::size_t{(next_ + ahead) & (slot_count - 1)} * slot_size_;
}

bool BpfRing::has(std::uint32_t ahead) const noexcept {
  return std::atomic_ref(*reinterpret_cast<std::uint32_t*>(slot(ahead) + state)).load(std::memory_order_acquire) != unfilled;
}

std::optional<FrameRing::Frame> BpfRing::frame(std::uint32_t ahead) const noexcept {
  std::uint8_t* octets = slot(ahead);
  std::uint32_t words[2];
  std::memcpy(words, octets, sizeof words);
  if (words[0] == left) return std::nullopt;
  const bool is_whole = words[1] != 0 && words[1] <= slot_size_ - frame_offset;
  return Frame{octets + frame_offset, words[1], frame_offset - slot_header_size, is_whole};
}

void BpfRing::release(std::uint32_t count) noexcept {
  for (std::uint32_t ahead = 0; ahead < count; ++ahead) {
    std::atomic_ref(*reinterpret_cast<std::uint32_t*>(slot(ahead) + state)).store(unfilled, std::memory_order_relaxed);
  }
  next_ += count;
  shared<std::uint32_t>(consumer).store(next_, std::memory_order_release);
}

}  // namespace groupvpn
