// ESP in UDP on its way in: a super-packet of the kernel is taken apart into the ESP packets that it holds (docs/protocol/esp-in-udp.md).
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <vector>

#include "packet.hpp"

namespace groupvpn {

// The packets of a UDP super-packet, one after the other: `segment_size` octets each, the last has the rest. They stay where they are, and
// share the one outer header that stands before the first. A segment that is no ESP comes with a reason. One whose SA needs the octets before it
// (Sa::reaches_before) can be set apart, with a header of its own.
class Splitter {
 public:
  static constexpr std::uint32_t maximum_segments = 128;  // more than any kernel makes (UDP_MAX_SEGMENTS)

  // `super` has gone through parse_outer. Refused with Reason::malformed: a segment size of 0, or more segments than the bound.
  Splitter(const Packet& super, std::uint32_t segment_size) noexcept
      : rest_(super),
        header_(super.data - super.outer.header_length, super.outer.header_length),
        segment_size_(segment_size),
        count_(segment_size == 0 ? 0 : (super.length + segment_size - 1) / segment_size) {}

  [[nodiscard]] Reason reason() const noexcept { return count_ == 0 || count_ > maximum_segments ? Reason::malformed : Reason::delivered; }
  [[nodiscard]] std::uint32_t count() const noexcept { return count_; }

  // The next packet; none behind the last.
  std::optional<Packet> next() noexcept {
    if (rest_.length == 0) return std::nullopt;
    Packet segment = rest_;
    segment.length = std::min(segment_size_, rest_.length);
    segment.tailroom = 0;
    segment.reason = reason_of(segment);
    ++index_;
    rest_.data += segment.length;
    rest_.length -= segment.length;
    rest_.headroom = 0;
    rest_.outer.header_length = 0;
    return segment;
  }

  // Copies the segment that `next` gave last to memory of its own, behind a copy of the header of the super-packet, which must still be as it
  // came. The identification becomes that of the segment; lengths and checksums stay those of the super-packet, nobody looks at them again. Null
  // if there is no memory: the segment then has no header, and decapsulation refuses it.
  [[nodiscard]] std::unique_ptr<std::vector<std::uint8_t>> set_apart(Packet& segment) const noexcept try {
    const auto size = static_cast<std::uint32_t>(header_.size());
    auto octets = std::make_unique<std::vector<std::uint8_t>>(header_.begin(), header_.end());
    octets->insert(octets->end(), segment.data, segment.data + segment.length);
    std::uint8_t* ip = octets->data();
    // Only those whose identifications count up are joined, unless DF is set (RFC 6864 4.1).
    if (segment.outer.family == Family::ipv4) {
      store16(ip + ipv4_at::identification, static_cast<std::uint16_t>(load16(ip + ipv4_at::identification) + index_ - 1));
    }
    segment.data = ip + size;
    segment.headroom = segment.outer.header_length = size;
    return octets;
  } catch (const std::bad_alloc&) {
    segment.headroom = segment.outer.header_length = 0;
    return nullptr;
  }

 private:
  // RFC 3948 2: what else may follow a UDP header on the port of ESP.
  static Reason reason_of(const Packet& segment) noexcept {
    if (segment.length == 1 && *segment.data == 0xff) return Reason::keepalive;
    if (segment.length >= 4 && load32(segment.data) == 0) return Reason::non_esp_marker;
    return Reason::delivered;
  }

  Packet rest_;
  std::span<const std::uint8_t> header_;
  std::uint32_t segment_size_, count_;
  std::uint32_t index_ = 0;  // of the next one
};

}  // namespace groupvpn
