// Memory that we share with the kernel, into which it writes ESP as it comes in.
#pragma once

#include <cstdint>
#include <span>

namespace groupvpn {

// Which packets of an SA have to stay with one worker, so that none falls out of a replay window because another worker is ahead.
enum class Spread : std::uint8_t {
  by_addresses,  // of each pair of hosts: nobody looks at the order of others
  by_sender,     // of each sender, who stands in the first 32 bits of the IV
  by_spi,        // all
};

struct TakenSpi {
  std::uint32_t spi;
  Spread spread;
  bool operator==(const TakenSpi&) const = default;
};

// Frames wait in the order in which they came. One thread looks at them and gives them back; the rest may be called by any thread, one at a
// time.
class FrameRing {
 public:
  // A frame that lies in the ring. `headroom` octets before it may be overwritten.
  struct Frame {
    std::uint8_t* data;
    std::uint32_t length;
    std::uint32_t headroom;
    bool is_whole;  // false: the kernel did not copy all of it
  };

  FrameRing() = default;
  FrameRing(const FrameRing&) = delete;
  FrameRing& operator=(const FrameRing&) = delete;
  virtual ~FrameRing() = default;

  // Octets of the longest IP packet that it takes.
  [[nodiscard]] virtual std::uint32_t longest_packet() const noexcept = 0;
  // Whether the kernel goes on with its own copy of what the ring took, which somebody has to drop then.
  [[nodiscard]] virtual bool leaves_copies() const noexcept = 0;
  // The kernel's number of the program at the ingress of the interface that fills it; 0 if there is none.
  [[nodiscard]] virtual std::uint32_t program_number() const noexcept { return 0; }
  // Takes ESP with these SPIs from now on; sorted. Nothing before it is called. All rings of an interface share them.
  virtual void set_spis(std::span<const TakenSpi> spis) = 0;
  // Frames that found the ring full.
  [[nodiscard]] virtual std::uint64_t overruns() const noexcept = 0;
  // How many WakeUps the TAP counts as dropped, though it lost no packet with them.
  [[nodiscard]] virtual std::uint64_t lost_wake_ups() const noexcept { return 0; }

  // For poll: readable when a frame has come to a ring that rests. If a WakeUp came to the TAP instead, `is_resting` is false from then on.
  [[nodiscard]] virtual int descriptor() const noexcept = 0;
  // Takes note of an error that poll told of; returns it.
  virtual int take_error() noexcept { return 0; }
  // `rise`: the thread polls the ring from now on. `rest`: it stops, until the next `rise`; false if frames wait or are being written: then it
  // has to rise at once.
  virtual void rise() noexcept {}
  [[nodiscard]] virtual bool rest() noexcept { return true; }
  [[nodiscard]] virtual bool is_resting() const noexcept { return true; }

  // Tells of no frames but those that have come by now, until it may go on.
  virtual void stop_here() noexcept = 0;
  virtual void go_on() noexcept = 0;

  // Whether a frame is there that was not taken; that frame; and giving back all that were taken.
  [[nodiscard]] virtual bool has() const noexcept = 0;
  [[nodiscard]] virtual Frame take() noexcept = 0;
  virtual void release() noexcept = 0;

  // When its thread has ended: takes nothing more, and throws away what waits. Returns how many frames that were.
  virtual std::uint64_t discard() noexcept = 0;
};

}  // namespace groupvpn
