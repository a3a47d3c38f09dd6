// What the kernel hands to the outbound path: a virtio header and a frame, both any octets. Every packet that comes out must be an IP packet of
// the size that was asked for, and fit. If it may be longer, since it will be fragmented after encryption, it goes through all that follows:
// encapsulated, fragmented, put together again and opened it must be what it was.
//
// The input: 10 octets of virtio header, one of size, one of flags, and the frame.
#include <memory>

#include "cut.hpp"
#include "fragment.hpp"
#include "reassembly.hpp"
#include "whole.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

// What is too long is sealed by one of these.
struct World {
  std::vector<std::shared_ptr<Sa>> sas;
  SaSet set;
  Esp esp;

  World() {
    const Keys keys(Cipher::null, Integrity::hmac_sha1_96);
    for (const Family outer : {Family::none, Family::ipv4, Family::ipv6}) {
      for (const Protocol protocol : {Protocol::esp, Protocol::ah}) {
        SaParameters parameters = keys.parameters(0x1000 + static_cast<std::uint32_t>(sas.size()));
        parameters.protocol = protocol;
        if (outer != Family::none) parameters.endpoints = Endpoints{outer, {0x20}, {0x21}};
        sas.push_back(std::make_shared<Sa>(parameters));
      }
    }
    set = SaSet(sas);
  }
};

class Checker : public PacketSink {
 public:
  Checker(const CutLimits& limits, World& world, Sa& sa) : limits_(limits), world_(world), sa_(sa) {}
  std::uint8_t* open(std::uint32_t length) noexcept override {
    if (length > limits_.inner_mtu && limits_.too_long != TooLong::split_later) __builtin_trap();
    octets_.reset(new std::uint8_t[length]);
    return octets_.get();
  }
  void commit(std::uint32_t length) noexcept override {
    const auto ip = CutPacket::parse(octets_.get(), length);
    if (!ip || ip->total_length != length) __builtin_trap();
    if (length <= limits_.inner_mtu) return;
    if (ip->family == Family::ipv6 && length > ipv6_minimum_mtu) __builtin_trap();
    go_on(Octets(octets_.get(), octets_.get() + length));
  }

 private:
  void go_on(const Octets& whole) {
    Buffer sealed(whole);
    sealed.packet.sa = &sa_;
    world_.esp.encapsulate({&sealed.packet, 1}, 0);
    if (sealed.packet.reason != Reason::delivered) return;
    Fragmenter fragmenter(sealed.packet, limits_.inner_mtu, 77);
    if (!fragmenter.is_possible()) __builtin_trap();
    Reassembler reassembler;
    Octets room(limits_.inner_mtu);
    std::unique_ptr<Octets> joined;
    while (const std::uint32_t length = fragmenter.next(room)) {
      if (joined) __builtin_trap();
      joined = add(reassembler, room.data(), length);
    }
    if (!joined || reassembler.pending_fragments() != 0) __builtin_trap();
    Buffer received(*joined);
    world_.esp.decapsulate(world_.set, {&received.packet, 1}, 0);
    if (received.packet.reason != Reason::delivered || received.octets() != whole) __builtin_trap();
  }

  static std::unique_ptr<Octets> add(Reassembler& reassembler, std::uint8_t* octets, std::uint32_t length) {
    if (const auto ip = Ipv4::parse(octets, length)) return ip->is_fragment() ? reassembler.add(*ip, 0).datagram : whole(octets, length);
    const Ipv6 ip = *Ipv6::parse(octets, length);
    const Ipv6Chain chain = *Ipv6Chain::walk(ip);
    return chain.is_fragment(ip) ? reassembler.add(ip, chain, 0).datagram : nullptr;
  }
  // A packet of which there was but one part.
  static std::unique_ptr<Octets> whole(const std::uint8_t* octets, std::uint32_t length) { return std::make_unique<Octets>(octets, octets + length); }

  CutLimits limits_;
  World& world_;
  Sa& sa_;
  std::unique_ptr<std::uint8_t[]> octets_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static World world;
  if (size < 12 || size > 70000) return 0;
  const CutLimits limits{256U + data[10] * 8U, (data[11] & 1) != 0, static_cast<TooLong>(data[11] / 2 % 3)};
  const std::size_t length = size - 12;
  const std::unique_ptr<std::uint8_t[]> frame(new std::uint8_t[length]);
  std::copy(data + 12, data + size, frame.get());
  const auto link = LinkHeader::parse(frame.get(), length);
  if (!link) return 0;
  const auto ip = CutPacket::parse(frame.get() + link->size, length - link->size);
  if (!ip) return 0;
  Cutter cutter(1);
  Checker checker(limits, world, *world.sas[data[11] / 8 % world.sas.size()]);
  cutter.cut(frame.get(), link->size, *ip, Offload::read(data), limits, checker);
  return 0;
}
