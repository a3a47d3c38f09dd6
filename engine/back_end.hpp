// Which of several ways to the kernel is in use, and why: for operators, and for tests.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

namespace groupvpn {

// How frames leave. `automatic` takes the first that works, in this order.
enum class TransmitMethod : std::uint8_t { automatic, bpf, xdp, packet, raw };
// How ESP comes in.
enum class ReceiveMethod : std::uint8_t { automatic, bpf, ring, tap };

// By the names that a user writes: auto, bpf, xdp, packet, raw; auto, bpf, ring, tap. EngineError for others.
TransmitMethod transmit_method_named(std::string_view name);
ReceiveMethod receive_method_named(std::string_view name);

struct BackEnd {
  std::string name;
  std::string reason;  // why not a better one; empty if there is nothing to say
};

// Written by the thread that uses the back end, read by others.
class BackEndReport {
 public:
  void set(BackEnd value) {
    const std::lock_guard lock(mutex_);
    value_ = std::move(value);
  }
  [[nodiscard]] BackEnd get() const {
    const std::lock_guard lock(mutex_);
    return value_;
  }

 private:
  mutable std::mutex mutex_;
  BackEnd value_;
};

}  // namespace groupvpn
