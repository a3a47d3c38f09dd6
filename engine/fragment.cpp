#include "fragment.hpp"

#include <algorithm>
#include <cstring>

#include "checksum.hpp"
#include "ipv4_options.hpp"

namespace groupvpn {
namespace {

constexpr std::uint32_t unit = 8;  // fragments begin at multiples of it

}  // namespace

void blank_uncopied_options(std::uint8_t* options, std::size_t length) noexcept {
  Ipv4Options all({options, length});
  while (const std::optional<std::span<std::uint8_t>> option = all.next()) {
    if ((option->front() & Ipv4Options::copied) == 0) std::memset(option->data(), Ipv4Options::no_operation, option->size());
  }
}

Fragmenter::Fragmenter(const Packet& packet, std::uint32_t mtu, std::uint32_t identification) noexcept
    : data_(packet.data), identification_(identification) {
  const Family family = packet.length == 0 ? Family::none : family_of(*packet.data);
  std::uint32_t header = 0;
  if (family == Family::ipv4) {
    const std::optional<Ipv4> ip = Ipv4::parse(packet.data, packet.length);
    if (!ip || ip->is_fragment()) return;
    header = ip->header_length();
    payload_ = ip->payload_length();
  } else if (family == Family::ipv6) {
    const std::optional<Ipv6> ip = Ipv6::parse(packet.data, packet.length);
    const std::optional<Ipv6Chain> chain = ip ? Ipv6Chain::walk(*ip) : std::nullopt;
    if (!chain || chain->is_fragment(*ip)) return;
    header = chain->unfragmentable;
    named_at_ = chain->unfragmentable_named_at;
    payload_ = ip->total_length() - header;
    inserted_ = fragment_header_size;
  } else {
    return;
  }
  if (mtu < header + inserted_ + unit) return;
  header_ = header;
  part_ = (mtu - header - inserted_) / unit * unit;
}

std::uint32_t Fragmenter::next(std::span<std::uint8_t> out) noexcept {
  if (header_ == 0 || at_ >= payload_) return 0;
  const std::uint32_t size = std::min(part_, payload_ - at_);
  const std::uint32_t length = header_ + inserted_ + size;
  if (out.size() < length) return 0;
  const bool has_more = at_ + size < payload_;
  std::uint8_t* header = out.data();
  std::memcpy(header, data_, header_);
  if (inserted_ == 0) {
    const std::uint32_t kept = load16(data_ + ipv4_at::fragment) & Ipv4::dont_fragment;
    const auto field = static_cast<std::uint16_t>(kept | (has_more ? Ipv4::more_fragments : 0) | at_ / unit);
    store16(header + ipv4_at::total_length, static_cast<std::uint16_t>(length));
    store16(header + ipv4_at::fragment, field);
    if (at_ != 0) blank_uncopied_options(header + ipv4_header_size, header_ - ipv4_header_size);
    write_header_checksum(header);
  } else {
    std::uint8_t* fragment = header + header_;
    fragment[fragment_at::next_header] = header[named_at_];
    fragment[1] = 0;
    store16(fragment + fragment_at::offset, static_cast<std::uint16_t>(at_ | (has_more ? ipv6_more_fragments : 0)));
    store32(fragment + fragment_at::identification, identification_);
    header[named_at_] = protocol_fragment;
    store16(header + ipv6_at::payload_length, static_cast<std::uint16_t>(length - ipv6_header_size));
  }
  std::memcpy(header + header_ + inserted_, data_ + header_ + at_, size);
  at_ += size;
  return length;
}

}  // namespace groupvpn
