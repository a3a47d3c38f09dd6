// The thread that takes ESP in, with a ring of the test's own: what it does when a frame comes just then.
#include "inbound.hpp"

#include <array>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "esp.hpp"
#include "frame_ring.hpp"
#include "own_network.hpp"
#include "spin.hpp"
#include "tap.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

constexpr MacAddress token = {0x02, 0x47, 0x44, 0x4f, 0x49, 0x77};

// Has some frames. When somebody looks for one, another frame comes by the TAP first: it is older.
class LateRing final : public FrameRing {
 public:
  struct Pair {
    Octets older, newer;
  };

  LateRing(const Ear& way_in, std::vector<Pair> pairs) : way_in_(way_in), pairs_(std::move(pairs)) {
    for (Pair& pair : pairs_) pair.newer.insert(pair.newer.begin(), headroom, 0);
  }

  // Whether all frames came so soon after the ring rose that the TAP had to be looked at.
  [[nodiscard]] bool was_quick() const noexcept { return last_ - risen_ < longest_on_the_way / 2; }

  [[nodiscard]] std::uint32_t longest_packet() const noexcept override { return 1500; }
  [[nodiscard]] bool leaves_copies() const noexcept override { return false; }
  void set_spis(std::span<const TakenSpi> /*spis*/) override {}
  [[nodiscard]] std::uint64_t overruns() const noexcept override { return 0; }
  [[nodiscard]] int descriptor() const noexcept override { return -1; }
  void rise() noexcept override {
    if (!is_risen_) risen_ = Spin::Clock::now();
    is_risen_ = true;
  }
  [[nodiscard]] bool rest() noexcept override { return taken_ == pairs_.size(); }
  void stop_here() noexcept override { is_stopped_ = true; }
  void go_on() noexcept override { is_stopped_ = false; }

  [[nodiscard]] bool has() const noexcept override {
    if (!is_risen_ || taken_ == pairs_.size() || is_there_) return is_there_;
    if (is_stopped_) return false;
    way_in_.send(pairs_[taken_].older);
    last_ = Spin::Clock::now();
    return is_there_ = true;
  }
  [[nodiscard]] std::optional<Frame> take() noexcept override {
    is_there_ = false;
    Octets& frame = pairs_[taken_++].newer;
    return Frame{frame.data() + headroom, static_cast<std::uint32_t>(frame.size()) - headroom, headroom, true};
  }
  void release() noexcept override {}

 private:
  static constexpr std::uint32_t headroom = 40;

  const Ear& way_in_;
  std::vector<Pair> pairs_;
  bool is_risen_ = false, is_stopped_ = false;
  std::size_t taken_ = 0;
  mutable bool is_there_ = false;
  Spin::Clock::time_point risen_;
  mutable Spin::Clock::time_point last_;
};

// Packets that come by turns, by the TAP and by the ring. Whether they arrive in order; nothing if it took too long to tell.
std::optional<bool> keeps_order() {
  const Descriptor descriptor = open_tap("in");
  const Tap tap(descriptor.number(), TapOffload::udp);
  const Ear kernel("in");
  const auto sa = Keys(Cipher::aes_128_gcm, Integrity::none, 0x3a).sa();
  Snapshot<SaTable> sas;
  auto table = std::make_shared<SaTable>();
  table->inbound = SaSet({sa});
  sas.set(std::move(table));

  std::array<Octets, 5> plain, sealed;
  for (std::size_t number = 0; number < plain.size(); ++number) {
    plain[number] = ipv4(Octets(40, static_cast<std::uint8_t>(number)));
    Buffer buffer(plain[number]);
    buffer.packet.sa = sa.get();
    Esp esp;
    esp.encapsulate({&buffer.packet, 1});
    sealed[number] = frame_around(buffer.octets());
  }
  LateRing ring(kernel, {{sealed[1], sealed[2]}, {sealed[3], sealed[4]}});
  std::mutex order;
  std::atomic<std::uint32_t> mtu{1500};
  std::atomic<bool> splits_after{false};
  Fault fault;
  Inbound inbound({0, 1, order, sas, mtu, splits_after, tap, token, fault, &ring, nullptr, nullptr});
  std::thread thread([&inbound] { inbound.run(); });
  kernel.send(sealed[0]);
  bool is_in_order = true;
  for (const Octets& packet : plain) {
    const Octets frame = kernel.receive();
    if (frame.empty()) fail(__FILE__, __LINE__, "a packet is missing");
    is_in_order = is_in_order && frame.size() >= 14 + packet.size() && std::equal(packet.begin(), packet.end(), frame.begin() + 14);
  }
  inbound.stop();
  thread.join();
  return ring.was_quick() ? std::optional(is_in_order) : std::nullopt;
}

}  // namespace

// Also what another processor brings late.
TEST_CASE(the_first_frames_of_a_ring_wait_for_what_the_tap_still_gets) {
  if (!has_own_network()) return;
  std::optional<bool> is_in_order;
  for (int attempt = 0; attempt < 100 && !is_in_order; ++attempt) is_in_order = keeps_order();
  CHECK(is_in_order == true);
}
