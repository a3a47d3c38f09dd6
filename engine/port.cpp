#include "port.hpp"

#include <pthread.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <new>
#include <system_error>

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

// While it lives no signal comes to this thread, nor ever to those that it starts.
class BlockedSignals {
 public:
  BlockedSignals() noexcept {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

// A thread in the network namespace of the port, that leaves all signals to the threads of the program that embeds us, and that runs on `processor` only
// unless that is -1. What it throws is a fault, and its end, but not that of the process. EngineError if there may be no more threads.
template <typename Body>
std::thread make_thread(const std::string& name, const Descriptor& network, int processor, Fault& fault, Body body) {
  const BlockedSignals blocked;
  std::thread thread;
  try {
    thread = std::thread([&network, &fault, body = std::move(body)] {
      try {
        enter(network);
        body();
      } catch (const std::bad_alloc&) {
        fault.set("no memory");  // so short that it needs none
      } catch (const std::exception& error) {
        fault.set(error.what());
      }
    });
  } catch (const std::system_error& error) {
    throw EngineError("the thread " + name + " cannot be started: " + error.what());
  }
  pthread_setname_np(thread.native_handle(), name.c_str());
  if (processor >= 0) {
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(static_cast<std::size_t>(processor), &only);
    pthread_setaffinity_np(thread.native_handle(), sizeof only, &only);  // `check_processors` found that it may be there
  }
  return thread;
}

void check_processors(const std::vector<int>& processors) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  sched_getaffinity(0, sizeof allowed, &allowed);
  for (const int processor : processors) {
    if (processor < 0 || processor >= CPU_SETSIZE || !CPU_ISSET(static_cast<std::size_t>(processor), &allowed)) {
      throw EngineError("processor " + std::to_string(processor) + " is not there, or not for this process");
    }
  }
}

std::vector<Tap> taps_of(const std::vector<int>& descriptors, TapOffload offload) {
  if (descriptors.empty() || descriptors.size() > Port::maximum_workers) {
    throw EngineError("a port has 1 to " + std::to_string(Port::maximum_workers) + " workers, not " + std::to_string(descriptors.size()));
  }
  std::vector<Tap> taps;
  for (const int descriptor : descriptors) taps.emplace_back(descriptor, offload);
  return taps;
}

void append_reasons(NamedCounters& result, const std::string& way, const PathCounters& counters) {
  for (const auto& [reason, name] : reason_names) result.emplace_back(way + std::string(name), counters.reasons.value(reason));
}

// Counters of the same names, in the same order.
void add(NamedCounters& sum, NamedCounters&& other) {
  if (sum.empty()) {
    sum = std::move(other);
    return;
  }
  for (std::size_t index = 0; index < sum.size(); ++index) sum[index].second += other[index].second;
}

}  // namespace

Port::Port(const PortParameters& parameters)
    : inbound_taps_(taps_of(parameters.inbound_taps, TapOffload::udp)),
      processors_(parameters.processors),
      wire_mtu_(checked_mtu(parameters.wire_mtu)),
      network_(open_network_namespace()),
      device_(Device::named(parameters.wan)),
      fault_(parameters.events ? parameters.events->alarm() : -1),
      events_(parameters.events) {
  check_processors(processors_);
  make_rings(parameters);
  if (receivers_ == 1) use_one_queue();
  for (std::size_t number = 0; number < inbound_taps_.size(); ++number) workers_.push_back(make_worker(parameters, number));
}

Port::~Port() { stop(); }

// An interface has as many AF_XDP sockets as queues. Workers for whom there is none do not fight for one.
std::unique_ptr<Port::Worker> Port::make_worker(const PortParameters& parameters, std::size_t number) {
  WireParameters wire{device_, parameters.mark, std::nullopt, parameters.transmit};
  if (number < device_.transmit_queues()) wire.queue = static_cast<std::uint32_t>(number);
  const bool receives = number < receivers_;
  FrameRing* ring = receives && !rings_.empty() ? rings_[number].get() : nullptr;
  const Tap& tap = inbound_taps_[receives ? number : 0];
  const PathContext context{number, sas_, wire_mtu_, splits_after_, tap, parameters.token, fault_, ring, tap_rings_.get(), events_.get()};
  auto worker = std::make_unique<Worker>(context, std::move(wire), SuperWire(device_, parameters.mark, tap.takes_udp_super_packets()));
  if (receives) worker->inbound.emplace(context);
  return worker;
}

// The kernel leads nothing to the other queues of the inbound TAP.
void Port::use_one_queue() const {
  for (std::size_t number = 1; number < inbound_taps_.size(); ++number) {
    ifreq request{};
    request.ifr_flags = IFF_DETACH_QUEUE;
    if (ioctl(inbound_taps_[number].descriptor(), TUNSETQUEUE, &request) != 0) throw EngineError(describe_error("IFF_DETACH_QUEUE", errno));
  }
}

// The best that works. One that was asked for is the only one tried.
void Port::make_rings(const PortParameters& parameters) {
  std::string problems;
  for (const ReceiveMethod method : {ReceiveMethod::bpf, ReceiveMethod::ring}) {
    if (parameters.receive != ReceiveMethod::automatic && parameters.receive != method) continue;
    const std::string name = method == ReceiveMethod::bpf ? "bpf" : "ring";
    try {
      if (method == ReceiveMethod::bpf) {
        auto rings = BpfRing::make(device_, parameters.token, parameters.wire_mtu, parameters.inbound_taps);
        tap_rings_ = std::make_unique<TapRings>(static_cast<std::uint32_t>(rings.size()), parameters.wire_mtu);
        receivers_ = rings.size();
        rings_ = std::move(rings);
      } else {
        rings_.push_back(std::make_unique<PacketRing>(device_, parameters.token, parameters.wire_mtu));
      }
      receive_ = {name, std::move(problems)};
      return;
    } catch (const EngineError& error) {
      problems += (problems.empty() ? "" : "; ") + name + ": " + error.what();
    }
  }
  if (parameters.receive == ReceiveMethod::bpf || parameters.receive == ReceiveMethod::ring) {
    throw EngineError("interface \"" + device_.name + "\": no way in: " + problems);
  }
  receive_ = {"tap", std::move(problems)};
}

std::size_t Port::add_outbound(const std::vector<int>& descriptors) {
  if (descriptors.size() != workers_.size()) {
    throw EngineError("a TAP with " + std::to_string(descriptors.size()) + " queues for " + std::to_string(workers_.size()) + " workers");
  }
  const std::vector<Tap> taps = taps_of(descriptors, TapOffload::super_packets);
  const std::size_t queue = next_queue_++;
  std::size_t done = 0;
  try {
    for (; done < workers_.size(); ++done) workers_[done]->outbound.add_queue(queue, taps[done]);
    if (tap_rings_) tap_programs_[queue] = tap_rings_->attach(descriptors, queue);
  } catch (...) {  // also without memory: the caller closes the TAPs
    while (done > 0) workers_[--done]->outbound.remove_queue(queue);
    throw;
  }
  return queue;
}

void Port::remove_outbound(std::size_t queue) {
  tap_programs_.erase(queue);
  bool was_there = false;
  for (const std::unique_ptr<Worker>& worker : workers_) was_there = worker->outbound.remove_queue(queue) || was_there;
  if (!was_there) throw EngineError("there is no outbound queue " + std::to_string(queue));
}

void Port::start() {
  if (is_started_) throw EngineError("the port is started already");
  is_started_ = true;
  try {
    start_threads();
  } catch (...) {  // also without memory: no thread may go on with TAPs that the caller closes
    stop();
    throw;
  }
}

void Port::start_threads() {
  for (std::size_t number = 0; number < workers_.size(); ++number) {
    Worker& worker = *workers_[number];
    const std::string suffix = workers_.size() == 1 ? "" : std::to_string(number);
    worker.outbound_thread = make_thread("groupvpn-out" + suffix, network_, processor(2 * number), fault_, [&worker] { worker.outbound.run(); });
    if (!worker.inbound) continue;
    worker.inbound_thread = make_thread("groupvpn-in" + suffix, network_, processor(2 * number + 1), fault_,
                                        [&worker] { worker.inbound->run(); });
  }
}

void Port::stop() {
  if (!is_started_) return;
  for (const std::unique_ptr<Worker>& worker : workers_) {
    worker->outbound.stop();
    if (worker->inbound) worker->inbound->stop();
  }
  for (const std::unique_ptr<Worker>& worker : workers_) {
    if (worker->outbound_thread.joinable()) worker->outbound_thread.join();
    if (worker->inbound_thread.joinable()) worker->inbound_thread.join();
    worker->outbound.rearm();
    if (worker->inbound) worker->inbound->rearm();
  }
  is_started_ = false;
}

void Port::set_sas(std::vector<std::shared_ptr<Sa>> inbound, const std::map<std::size_t, Senders>& outbound, const Tags& tags) {
  std::vector<TakenSpi> spis;  // in order, each once
  for (const std::shared_ptr<Sa>& sa : inbound) {
    if (sa->protocol() == Protocol::esp) spis.push_back({sa->spi(), sa->spread()});
  }
  if (!rings_.empty()) {
    for (const std::shared_ptr<Sa>& sa : inbound) sa->keep_at_least(Sa::maximum_replay_window);
  }
  std::ranges::sort(spis, {}, &TakenSpi::spi);
  const auto same = [](const TakenSpi& left, const TakenSpi& right) { return left.spi == right.spi; };
  spis.erase(std::unique(spis.begin(), spis.end(), same), spis.end());  // clang 14, which builds the fuzz targets, cannot read std::ranges::unique
  auto table = std::make_shared<SaTable>();
  table->inbound = SaSet(std::move(inbound), tags);
  if (!outbound.empty()) table->outbound.resize(outbound.rbegin()->first + 1);
  for (const auto& [queue, senders] : outbound) table->outbound[queue] = senders;
  sas_.set(std::move(table));
  if (!rings_.empty()) rings_.front()->set_spis(spis);
}

NamedCounters Port::discard() {
  if (is_started_) throw EngineError("the port is not stopped: its threads read the rings");
  std::uint64_t inbound = 0, outbound = 0;
  tap_programs_.clear();
  for (const std::unique_ptr<FrameRing>& ring : rings_) inbound += ring->discard();
  for (const std::unique_ptr<Worker>& worker : workers_) outbound += worker->outbound.discard();
  return {{"outbound", outbound}, {"inbound", inbound}};
}

NamedCounters Port::overruns() const {
  std::uint64_t inbound = 0, wake_ups = 0;
  for (const std::unique_ptr<FrameRing>& ring : rings_) {
    inbound += ring->overruns();
    wake_ups += ring->lost_wake_ups();
  }
  return {{"outbound", tap_rings_ ? tap_rings_->overruns() : 0}, {"inbound", inbound}, {"wake_ups", wake_ups}};
}

std::vector<BackEnd> Port::transmit() const {
  std::vector<BackEnd> result;
  for (const std::unique_ptr<Worker>& worker : workers_) result.push_back(worker->outbound.back_end());
  return result;
}

void Port::set_wire_mtu(std::uint32_t mtu) { wire_mtu_.store(checked_mtu(mtu), std::memory_order_relaxed); }

NamedCounters Port::counters() const {
  const PathCounters none;
  NamedCounters result;
  for (const std::unique_ptr<Worker>& worker : workers_) {
    NamedCounters one;
    append_reasons(one, "outbound_", worker->outbound.counters());
    append_reasons(one, "inbound_", worker->inbound ? worker->inbound->counters() : none);
    add(result, std::move(one));
  }
  return result;
}

NamedCounters Port::traffic() const {
  const PathCounters none;
  NamedCounters result;
  for (const std::unique_ptr<Worker>& worker : workers_) {
    const PathCounters& out = worker->outbound.counters();
    const PathCounters& in = worker->inbound ? worker->inbound->counters() : none;
    add(result, {
                    {"outbound_frames", out.frames.value()},
                    {"outbound_packets", out.packets.value()},
                    {"outbound_gathered", out.gathered.value()},
                    {"outbound_icmp_sent", out.icmp_sent.value()},
                    {"inbound_frames", in.frames.value()},
                    {"inbound_ring_frames", in.ring_frames.value()},
                    {"inbound_split", in.split.value()},
                    {"inbound_joined", in.joined.value()},
                    {"inbound_coalesced", in.coalesced.value()},
                    {"inbound_pending", in.pending.load(std::memory_order_relaxed)},
                });
  }
  return result;
}

}  // namespace groupvpn
