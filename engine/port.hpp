// The data path of one WAN interface: its workers, each with a thread out and a thread in, and what they share.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "frame_ring.hpp"
#include "inbound.hpp"
#include "outbound.hpp"
#include "path_context.hpp"
#include "tap_rings.hpp"

namespace groupvpn {

using NamedCounters = std::vector<std::pair<std::string, std::uint64_t>>;

// See groupvpn._engine.Port.
struct PortParameters {
  std::string wan;
  std::vector<int> inbound_taps;  // the queues of one TAP, one for each worker
  MacAddress token;  // see PathContext
  std::uint32_t wire_mtu;
  std::uint32_t mark = 0;
  TransmitMethod transmit = TransmitMethod::automatic;
  ReceiveMethod receive = ReceiveMethod::automatic;
  std::vector<int> processors = {};  // to which the threads are bound in turn, a worker's outbound one first; none: to no one
  std::shared_ptr<EventQueue> events = nullptr;  // is told of packets that an auditor wants to know of
};

class Port {
 public:
  static constexpr std::uint32_t minimum_mtu = 256;

  static constexpr std::size_t maximum_workers = 32;

  // EngineError for a device, descriptor or processor that does not serve.
  explicit Port(const PortParameters& parameters);
  ~Port();
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;

  // The queues of one TAP, one for each worker; the kernel leads each flow to one of them.
  std::size_t add_outbound(const std::vector<int>& taps);
  void remove_outbound(std::size_t queue);
  void start();
  void stop();
  // When it is stopped for ever: takes no more packets into its rings, and throws away those that wait. Returns how many frames that were.
  // EngineError while it is started.
  NamedCounters discard();
  // `tags` tells steering what was decrypted under which SA; see SaSet.
  void set_sas(std::vector<std::shared_ptr<Sa>> inbound, const std::map<std::size_t, Senders>& outbound, const Tags& tags = {});
  void set_wire_mtu(std::uint32_t mtu);
  // Whether packets that are too long are fragmented after encryption.
  void set_fragments_after(bool after) noexcept { splits_after_.store(after, std::memory_order_relaxed); }
  // Packets by what became of them, and how many came; see PathCounters for how the two add up.
  [[nodiscard]] NamedCounters counters() const;
  [[nodiscard]] NamedCounters traffic() const;
  // Frames that found a ring full; they are not in any other counter. And `wake_ups`, which the inbound TAP counts as dropped though they are no packets.
  [[nodiscard]] NamedCounters overruns() const;
  [[nodiscard]] std::string fault() const { return fault_.get(); }
  [[nodiscard]] std::size_t workers() const noexcept { return workers_.size(); }
  [[nodiscard]] std::size_t receivers() const noexcept { return receivers_; }
  // The back ends in use, of each worker.
  [[nodiscard]] std::vector<BackEnd> transmit() const;
  [[nodiscard]] const BackEnd& receive() const { return receive_; }
  // Octets of the longest ESP packet that comes in by the ring; 0 without a ring. All ESP that the kernel goes on with must be brought to the TAP,
  // but for packets of at most `copy_limit` octets that the ring has already: those must be dropped.
  [[nodiscard]] std::uint32_t ring_limit() const { return rings_.empty() ? 0 : rings_.front()->longest_packet(); }
  [[nodiscard]] std::uint32_t ring_program() const { return rings_.empty() ? 0 : rings_.front()->program_number(); }
  [[nodiscard]] std::uint32_t copy_limit() const { return !rings_.empty() && rings_.front()->leaves_copies() ? ring_limit() : 0; }

 private:
  struct Worker {
    Worker(const PathContext& context, WireParameters wire, SuperWire super_wire) : outbound(context, std::move(wire), std::move(super_wire)) {}

    Outbound outbound;
    std::optional<Inbound> inbound;  // without a BPF program nothing says which packets have to stay together, so the first worker takes all
    std::thread outbound_thread, inbound_thread;
  };

  void make_rings(const PortParameters& parameters);
  void use_one_queue() const;
  void start_threads();
  std::unique_ptr<Worker> make_worker(const PortParameters& parameters, std::size_t number);
  [[nodiscard]] int processor(std::size_t thread) const noexcept { return processors_.empty() ? -1 : processors_[thread % processors_.size()]; }

  std::vector<Tap> inbound_taps_;
  std::vector<int> processors_;
  std::atomic<std::uint32_t> wire_mtu_;
  std::atomic<bool> splits_after_{false};
  Descriptor network_;  // the namespace in which the port was made
  Device device_;
  BackEnd receive_;
  std::vector<std::unique_ptr<FrameRing>> rings_;  // of each worker that takes ESP in, or none
  std::size_t receivers_ = 1;                      // workers that do
  std::unique_ptr<TapRings> tap_rings_;            // of each worker, or none
  std::map<std::size_t, Descriptor> tap_programs_;  // by outbound queue
  Snapshot<SaTable> sas_;
  Fault fault_;
  std::shared_ptr<EventQueue> events_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::size_t next_queue_ = 0;
  bool is_started_ = false;
};

}  // namespace groupvpn
