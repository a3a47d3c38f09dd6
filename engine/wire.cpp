#include "wire.hpp"

#include <algorithm>
#include <array>
#include <exception>
#include <utility>

#include "bpf_transmitter.hpp"
#include "error.hpp"
#include "packet_transmitter.hpp"
#include "raw_transmitter.hpp"
#include "slots.hpp"
#include "xdp_transmitter.hpp"

namespace groupvpn {
namespace {

constexpr std::array methods = {TransmitMethod::bpf, TransmitMethod::xdp, TransmitMethod::packet, TransmitMethod::raw};

const char* name_of(TransmitMethod method) noexcept {
  switch (method) {
    case TransmitMethod::bpf: return "bpf";
    case TransmitMethod::xdp: return "xdp";
    case TransmitMethod::packet: return "packet";
    case TransmitMethod::raw: return "raw";
    case TransmitMethod::automatic: break;
  }
  return "none";
}

TransmitMethod next_after(TransmitMethod method) noexcept { return static_cast<TransmitMethod>(static_cast<std::uint8_t>(method) + 1); }

// Sends nothing: what there is while the only method that is allowed does not work.
class NoTransmitter final : public Transmitter {
 public:
  explicit NoTransmitter(std::size_t slot_size) : slots_(burst_size, slot_size) {}
  [[nodiscard]] std::uint8_t* slot(std::size_t index) noexcept override { return slots_.slot(index); }
  [[nodiscard]] std::size_t slot_size() const noexcept override { return slots_.size(); }
  bool send(std::span<OutgoingFrame> /*frames*/) noexcept override { return true; }

 private:
  Slots slots_;
};

}  // namespace

Wire::Wire(WireParameters parameters, std::size_t slot_size)
    : parameters_(std::move(parameters)), slot_size_(slot_size), namespace_(network_namespace()) {
  if (!choose(methods.front(), true, "")) {
    throw EngineError("interface \"" + parameters_.device.name + "\": no way to send: " + report_.get().reason);
  }
}

std::unique_ptr<Transmitter> Wire::make(TransmitMethod method, bool is_patient) {
  if (network_namespace() != namespace_) throw EngineError("the thread is in another network namespace");
  switch (method) {
    case TransmitMethod::bpf: return std::make_unique<BpfTransmitter>(parameters_.device, parameters_.mark, slot_size_);
    case TransmitMethod::xdp:
      if (!parameters_.queue) throw EngineError("the interface has fewer queues than there are workers");
      return std::make_unique<XdpTransmitter>(parameters_.device, *parameters_.queue, slot_size_, is_patient);
    case TransmitMethod::packet: return std::make_unique<PacketTransmitter>(parameters_.device, parameters_.mark, slot_size_);
    case TransmitMethod::raw: return std::make_unique<RawTransmitter>(parameters_.device, parameters_.mark, slot_size_);
    case TransmitMethod::automatic: break;
  }
  throw EngineError("no method");
}

bool Wire::choose(TransmitMethod first, bool is_patient, std::string problems) {
  bool is_busy = false;
  method_ = TransmitMethod::automatic;
  for (const TransmitMethod method : methods) {
    if (method < first || (parameters_.method != TransmitMethod::automatic && parameters_.method != method)) continue;
    try {
      transmitter_ = make(method, is_patient);
      method_ = method;
      break;
    } catch (const EngineError& error) {
      is_busy |= dynamic_cast<const EngineBusy*>(&error) != nullptr;
      problems += (problems.empty() ? "" : "; ") + std::string(name_of(method)) + ": " + error.what();
    }
  }
  const bool has_one = method_ != TransmitMethod::automatic;
  if (has_one) best_ = std::min(best_, method_);
  may_improve_ = !has_one || method_ > best_ || is_busy;
  report_.set({name_of(method_), std::move(problems)});
  return has_one;
}

void Wire::send(std::span<OutgoingFrame> frames) noexcept {
  if (transmitter_->send(frames)) return;
  interval_ = shortest_interval;
  const bool may_change = parameters_.method == TransmitMethod::automatic;
  const TransmitMethod broken = std::exchange(method_, TransmitMethod::automatic);
  replace(may_change ? next_after(broken) : parameters_.method, broken);
}

// What broke is closed first: then nothing that lies in its ring leaves later, and its queue becomes free.
void Wire::replace(TransmitMethod first, TransmitMethod broken) noexcept {
  try {
    transmitter_ = std::make_unique<NoTransmitter>(slot_size_);
    choose(first, false, broken == TransmitMethod::automatic ? "" : std::string(name_of(broken)) + ": it stopped working");
  } catch (const std::exception&) {  // no memory, perhaps later; what did not break is still there if there was none for anything
    may_improve_ = true;
    report_.set({name_of(method_), "no memory"});
  }
  next_try_ = Clock::now() + interval_;
}

void Wire::resize(std::size_t slot_size) noexcept {
  slot_size_ = slot_size;
  interval_ = shortest_interval;
  replace(methods.front(), TransmitMethod::automatic);
}

void Wire::look_after() noexcept {
  if (!may_improve_ || Clock::now() < next_try_) return;
  interval_ = std::min(interval_ * 2, longest_interval);
  replace(methods.front(), TransmitMethod::automatic);
}

}  // namespace groupvpn
