#include "port.hpp"

#include <pthread.h>
#include <signal.h>

#include <algorithm>

#include "bpf_ring.hpp"
#include "error.hpp"
#include "packet_ring.hpp"

namespace groupvpn {
namespace {

std::uint32_t checked_mtu(std::uint32_t mtu) {
  if (mtu < Port::minimum_mtu || mtu > ipv4_maximum_size) {
    throw EngineError("an MTU of " + std::to_string(mtu) + " octets is outside 256 to 65535");
  }
  return mtu;
}

// A thread that leaves all signals to the threads of the program that embeds us.
template <typename Body>
std::thread make_thread(const char* name, Body body) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread(std::move(body));
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_setname_np(thread.native_handle(), name);
  return thread;
}

void append_reasons(NamedCounters& result, const std::string& way, const PathCounters& counters) {
  for (std::size_t index = 0; index < reason_names.size(); ++index) {
    result.emplace_back(way + std::string(reason_names[index]), counters.reasons.value(static_cast<Reason>(index)));
  }
}

}  // namespace

Port::Port(const PortParameters& parameters)
    : inbound_tap_(parameters.inbound_tap, TapOffload::udp),
      wire_mtu_(checked_mtu(parameters.wire_mtu)),
      device_(Device::named(parameters.wan)),
      ring_(make_ring(parameters)),
      events_(parameters.events),
      outbound_(context(parameters.token), {device_, parameters.mark, 0, parameters.transmit},
                SuperWire(device_, parameters.mark, inbound_tap_.takes_udp_super_packets())),
      inbound_(context(parameters.token)) {}

Port::~Port() { stop(); }

// The best that works. One that was asked for is the only one tried.
std::unique_ptr<FrameRing> Port::make_ring(const PortParameters& parameters) {
  std::string problems;
  for (const ReceiveMethod method : {ReceiveMethod::bpf, ReceiveMethod::ring}) {
    if (parameters.receive != ReceiveMethod::automatic && parameters.receive != method) continue;
    const std::string name = method == ReceiveMethod::bpf ? "bpf" : "ring";
    try {
      std::unique_ptr<FrameRing> ring;
      if (method == ReceiveMethod::bpf) {
        ring = std::make_unique<BpfRing>(device_, parameters.token, parameters.wire_mtu);
      } else {
        ring = std::make_unique<PacketRing>(device_, parameters.token, parameters.wire_mtu);
      }
      receive_ = {name, std::move(problems)};
      return ring;
    } catch (const EngineError& error) {
      problems += (problems.empty() ? "" : "; ") + name + ": " + error.what();
    }
  }
  if (parameters.receive == ReceiveMethod::bpf || parameters.receive == ReceiveMethod::ring) {
    throw EngineError("interface \"" + device_.name + "\": no way in: " + problems);
  }
  receive_ = {"tap", std::move(problems)};
  return nullptr;
}

std::size_t Port::add_outbound(int tap) { return outbound_.add_queue(Tap(tap, TapOffload::super_packets)); }

void Port::remove_outbound(std::size_t queue) { outbound_.remove_queue(queue); }

void Port::start() {
  if (outbound_thread_.joinable()) throw EngineError("the port is started already");
  outbound_thread_ = make_thread("groupvpn-out", [this] { outbound_.run(); });
  inbound_thread_ = make_thread("groupvpn-in", [this] { inbound_.run(); });
}

void Port::stop() {
  if (!outbound_thread_.joinable()) return;
  outbound_.stop();
  inbound_.stop();
  outbound_thread_.join();
  inbound_thread_.join();
}

void Port::set_sas(std::vector<std::shared_ptr<Sa>> inbound, const std::map<std::size_t, std::shared_ptr<Sa>>& outbound) {
  std::vector<std::uint32_t> spis;  // in order, each once
  for (const std::shared_ptr<Sa>& sa : inbound) {
    if (sa->protocol() == Protocol::esp) spis.push_back(sa->spi());
  }
  std::ranges::sort(spis);
  spis.erase(std::unique(spis.begin(), spis.end()), spis.end());
  auto table = std::make_shared<SaTable>();
  table->inbound = SaSet(std::move(inbound));
  if (!outbound.empty()) table->outbound.resize(outbound.rbegin()->first + 1);
  for (const auto& [queue, sa] : outbound) table->outbound[queue] = sa;
  sas_.set(std::move(table));
  if (ring_) ring_->set_spis(spis);
}

void Port::set_wire_mtu(std::uint32_t mtu) { wire_mtu_.store(checked_mtu(mtu), std::memory_order_relaxed); }

NamedCounters Port::counters() const {
  NamedCounters result;
  append_reasons(result, "outbound_", outbound_.counters());
  append_reasons(result, "inbound_", inbound_.counters());
  return result;
}

NamedCounters Port::traffic() const {
  const PathCounters& out = outbound_.counters();
  const PathCounters& in = inbound_.counters();
  return {
      {"outbound_frames", out.frames.value()},
      {"outbound_packets", out.packets.value()},
      {"outbound_gathered", out.gathered.value()},
      {"outbound_icmp_sent", out.icmp_sent.value()},
      {"inbound_frames", in.frames.value()},
      {"inbound_split", in.split.value()},
      {"inbound_joined", in.joined.value()},
      {"inbound_coalesced", in.coalesced.value()},
      {"inbound_pending", in.pending.load(std::memory_order_relaxed)},
  };
}

}  // namespace groupvpn
