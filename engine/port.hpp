// The data path of one WAN interface: one thread out, one thread in, and what they share.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "inbound.hpp"
#include "outbound.hpp"
#include "path.hpp"

namespace groupvpn {

using NamedCounters = std::vector<std::pair<std::string, std::uint64_t>>;

class Port {
 public:
  static constexpr std::uint32_t minimum_mtu = 256;

  // See groupvpn._engine.Port for the parameters. EngineError for a device or descriptor that does not serve.
  Port(const std::string& wan, int inbound_tap, const MacAddress& token, std::uint32_t wire_mtu, std::uint32_t mark);
  ~Port();
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;

  std::size_t add_outbound(int tap);
  void remove_outbound(std::size_t queue);
  void start();
  void stop();
  void set_sas(std::vector<std::shared_ptr<Sa>> inbound, const std::map<std::size_t, std::shared_ptr<Sa>>& outbound);
  void set_wire_mtu(std::uint32_t mtu);
  // Packets by what became of them, and how many came; see PathCounters for how the two add up.
  [[nodiscard]] NamedCounters counters() const;
  [[nodiscard]] NamedCounters traffic() const;
  [[nodiscard]] std::string fault() const { return fault_.get(); }

 private:
  PathContext context(const MacAddress& token) { return {sas_, wire_mtu_, inbound_tap_, token, fault_}; }

  Tap inbound_tap_;
  std::atomic<std::uint32_t> wire_mtu_;
  Snapshot<SaTable> sas_;
  Fault fault_;
  Outbound outbound_;
  Inbound inbound_;
  std::thread outbound_thread_;
  std::thread inbound_thread_;
};

}  // namespace groupvpn
