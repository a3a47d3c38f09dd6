// What an outbound or inbound path is given by its port.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "device.hpp"
#include "path.hpp"
#include "tap.hpp"

namespace groupvpn {

class EventQueue;
class FrameRing;
class TapRings;

// What a path needs of its port, which outlives it.
struct PathContext {
  std::size_t worker;  // which of those that serve the interface
  const Snapshot<SaTable>& sas;
  const std::atomic<std::uint32_t>& wire_mtu;
  const std::atomic<bool>& splits_after;  // whether what is too long is fragmented after encryption
  const Tap& inbound_tap;  // the worker's queue of it
  MacAddress token;  // of our own ICMP; packets that were decrypted have the tag of their SA instead of its last octets
  Fault& fault;
  FrameRing* ring;  // where ESP comes in, beside the TAP; null without
  const TapRings* tap_rings;  // where packets to protect come in, beside the outbound TAPs; null without
  EventQueue* events;  // may be none
};

}  // namespace groupvpn
