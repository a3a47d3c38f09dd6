// What the kernel hands to the outbound path: a virtio header and a frame, both any octets. Every packet that comes out must be an IP packet of
// the size that was asked for, and fit, or be one that may be split later.
#include <memory>

#include "../tests/build.hpp"
#include "cut.hpp"

using namespace groupvpn;

namespace {

class Checker : public PacketSink {
 public:
  explicit Checker(const CutLimits& limits) : limits_(limits) {}
  std::uint8_t* open(std::uint32_t length) noexcept override {
    if (length > limits_.inner_mtu && limits_.too_long != TooLong::split_later) __builtin_trap();
    octets_.reset(new std::uint8_t[length]);
    return octets_.get();
  }
  void commit(std::uint32_t length) noexcept override {
    const auto ip = CutPacket::parse(octets_.get(), length);
    if (!ip || ip->total_length != length) __builtin_trap();
    if (length > limits_.inner_mtu && ip->family == Family::ipv6 && length > ipv6_minimum_mtu) __builtin_trap();
  }

 private:
  const CutLimits& limits_;
  std::unique_ptr<std::uint8_t[]> octets_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
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
  Checker checker(limits);
  cutter.cut(frame.get(), link->size, *ip, Offload::read(data), limits, checker);
  return 0;
}
