// The way out of a port: the best transmitter that works, another one when it fails, and the best again when it works again.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "back_end.hpp"
#include "device.hpp"
#include "transmitter.hpp"

namespace groupvpn {

struct WireParameters {
  Device device;
  std::uint32_t mark = 0;                // of frames that pass the egress hooks
  std::optional<std::uint32_t> queue{};  // of the interface, for the method that wants one of its own
  TransmitMethod method = TransmitMethod::automatic;
};

class Wire {
 public:
  // Tries each method by really making its socket. EngineError, with what each said, if none of those allowed works.
  Wire(WireParameters parameters, std::size_t slot_size);

  // See Transmitter. A frame that cannot be sent stays unmarked.
  [[nodiscard]] std::uint8_t* slot(std::size_t index) noexcept { return transmitter_->slot(index); }
  [[nodiscard]] std::size_t slot_size() const noexcept { return transmitter_->slot_size(); }
  void send(std::span<OutgoingFrame> frames) noexcept;

  // Between two bursts: buffers of another size; and a try for a better transmitter if the one in use is only a substitute.
  void resize(std::size_t slot_size) noexcept;
  void look_after() noexcept;

  // Any thread may ask.
  [[nodiscard]] BackEnd back_end() const { return report_.get(); }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr Clock::duration shortest_interval = std::chrono::milliseconds(100), longest_interval = std::chrono::seconds(10);

  std::unique_ptr<Transmitter> make(TransmitMethod method, bool is_patient);
  // Makes the best transmitter of those from `first` on; says whether there is one. `problems` is what is known already.
  bool choose(TransmitMethod first, bool is_patient, std::string problems);
  // `broken`: the one that did not work any more, or automatic.
  void replace(TransmitMethod first, TransmitMethod broken) noexcept;

  WireParameters parameters_;
  std::size_t slot_size_;
  std::uint64_t namespace_;  // the one in which the sockets must be made
  std::unique_ptr<Transmitter> transmitter_;
  TransmitMethod method_ = TransmitMethod::automatic;  // of the transmitter in use
  TransmitMethod best_ = TransmitMethod::raw;          // that has ever worked
  bool may_improve_ = false;
  Clock::duration interval_ = shortest_interval;
  Clock::time_point next_try_{};
  BackEndReport report_;
};

}  // namespace groupvpn
