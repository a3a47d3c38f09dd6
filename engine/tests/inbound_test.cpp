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
#include "tap.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

constexpr MacAddress token = {0x02, 0x47, 0x44, 0x4f, 0x49, 0x77};

// Has some frames, each of which comes at the second look for it. At the first one another frame comes by the TAP: it is older.
class LateRing final : public FrameRing {
 public:
  struct Pair {
    Octets older, newer;
  };

  LateRing(const Ear& way_in, std::vector<Pair> pairs) : way_in_(way_in), pairs_(std::move(pairs)) {
    for (Pair& pair : pairs_) pair.newer.insert(pair.newer.begin(), headroom, 0);
  }

  [[nodiscard]] std::uint32_t longest_packet() const noexcept override { return 1500; }
  [[nodiscard]] bool leaves_copies() const noexcept override { return false; }
  void set_spis(std::span<const TakenSpi> /*spis*/) override {}
  [[nodiscard]] std::uint64_t overruns() const noexcept override { return 0; }
  [[nodiscard]] int descriptor() const noexcept override { return -1; }
  void rise() noexcept override { is_risen_ = true; }
  [[nodiscard]] bool rest() noexcept override { return taken_ == pairs_.size(); }

  [[nodiscard]] bool has() const noexcept override {
    if (!is_risen_ || taken_ == pairs_.size()) return false;
    if (looks_++ == 0) way_in_.send(pairs_[taken_].older);
    return looks_ > 1;
  }
  [[nodiscard]] std::optional<Frame> take() noexcept override {
    Octets& frame = pairs_[taken_++].newer;
    looks_ = 0;
    return Frame{frame.data() + headroom, static_cast<std::uint32_t>(frame.size()) - headroom, headroom, true};
  }
  void release() noexcept override {}

 private:
  static constexpr std::uint32_t headroom = 40;

  const Ear& way_in_;
  std::vector<Pair> pairs_;
  bool is_risen_ = false;
  std::size_t taken_ = 0;
  mutable int looks_ = 0;
};

}  // namespace

// Also when another processor brings it late.
TEST_CASE(the_first_frames_of_a_ring_wait_for_what_the_tap_still_gets) {
  if (!has_own_network()) return;
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
  for (const Octets& packet : plain) {
    const Octets frame = kernel.receive();
    CHECK(frame.size() >= 14 + packet.size() && std::equal(packet.begin(), packet.end(), frame.begin() + 14));
  }
  inbound.stop();
  thread.join();
}
