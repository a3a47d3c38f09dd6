// The data path of one WAN interface: one thread out, one thread in, and what they share.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "frame_ring.hpp"
#include "inbound.hpp"
#include "outbound.hpp"
#include "path.hpp"

namespace groupvpn {

using NamedCounters = std::vector<std::pair<std::string, std::uint64_t>>;

// See groupvpn._engine.Port.
struct PortParameters {
  std::string wan;
  int inbound_tap;
  MacAddress token;
  std::uint32_t wire_mtu;
  std::uint32_t mark = 0;
  TransmitMethod transmit = TransmitMethod::automatic;
  ReceiveMethod receive = ReceiveMethod::automatic;
  std::shared_ptr<EventQueue> events = nullptr;  // is told of packets that an auditor wants to know of
};

class Port {
 public:
  static constexpr std::uint32_t minimum_mtu = 256;

  // EngineError for a device or descriptor that does not serve.
  explicit Port(const PortParameters& parameters);
  ~Port();
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;

  std::size_t add_outbound(int tap);
  void remove_outbound(std::size_t queue);
  void start();
  void stop();
  void set_sas(std::vector<std::shared_ptr<Sa>> inbound, const std::map<std::size_t, std::shared_ptr<Sa>>& outbound);
  void set_wire_mtu(std::uint32_t mtu);
  // Whether packets that are too long are fragmented after encryption.
  void set_fragments_after(bool after) noexcept { splits_after_.store(after, std::memory_order_relaxed); }
  // Packets by what became of them, and how many came; see PathCounters for how the two add up.
  [[nodiscard]] NamedCounters counters() const;
  [[nodiscard]] NamedCounters traffic() const;
  // Frames that found the ring full; they are not in any other counter.
  [[nodiscard]] std::uint64_t overruns() const { return ring_ ? ring_->overruns() : 0; }
  [[nodiscard]] std::string fault() const { return fault_.get(); }
  // The back ends in use.
  [[nodiscard]] BackEnd transmit() const { return outbound_.back_end(); }
  [[nodiscard]] const BackEnd& receive() const { return receive_; }
  // Octets of the longest ESP packet that comes in by the ring; 0 without a ring. All ESP that the kernel goes on with must be brought to the TAP,
  // but for packets of at most `copy_limit` octets that the ring has already: those must be dropped.
  [[nodiscard]] std::uint32_t ring_limit() const { return ring_ ? ring_->longest_packet() : 0; }
  [[nodiscard]] std::uint32_t copy_limit() const { return ring_ && ring_->leaves_copies() ? ring_->longest_packet() : 0; }

 private:
  PathContext context(const MacAddress& token) { return {sas_, wire_mtu_, splits_after_, inbound_tap_, token, fault_, ring_.get(), events_.get()}; }
  std::unique_ptr<FrameRing> make_ring(const PortParameters& parameters);

  Tap inbound_tap_;
  std::atomic<std::uint32_t> wire_mtu_;
  std::atomic<bool> splits_after_{false};
  Device device_;
  BackEnd receive_;
  std::unique_ptr<FrameRing> ring_;
  Snapshot<SaTable> sas_;
  Fault fault_;
  std::shared_ptr<EventQueue> events_;
  Outbound outbound_;
  Inbound inbound_;
  std::thread outbound_thread_;
  std::thread inbound_thread_;
};

}  // namespace groupvpn
