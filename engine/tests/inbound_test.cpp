// The thread that takes ESP in, with a ring of the test's own: what it does when a frame comes just then.
#include "inbound.hpp"

#include <array>
#include <atomic>
#include <chrono>
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

// Has frames, and places of frames that come by the TAP: the first has called the thread, another one comes when its place has been looked at.
class CallingRing final : public FrameRing {
 public:
  struct Place {
    Octets frame;
    bool is_at_tap;
  };

  CallingRing(const Ear& way_in, std::vector<Place> places) : way_in_(way_in), places_(std::move(places)) {
    for (Place& place : places_) place.frame.insert(place.frame.begin(), headroom, 0);
  }
  ~CallingRing() override {
    for (std::thread& thread : on_the_way_) thread.join();
  }

  [[nodiscard]] std::uint32_t longest_packet() const noexcept override { return 1500; }
  [[nodiscard]] bool leaves_copies() const noexcept override { return false; }
  void set_spis(std::span<const TakenSpi> /*spis*/) override {}
  [[nodiscard]] std::uint64_t overruns() const noexcept override { return 0; }
  [[nodiscard]] int descriptor() const noexcept override { return -1; }
  [[nodiscard]] bool is_called() const noexcept override { return is_called_; }
  void rise() noexcept override { is_called_ = false; }
  [[nodiscard]] bool rest() noexcept override { return next_ == places_.size(); }

  [[nodiscard]] bool has() const noexcept override { return !is_called_ && next_ < places_.size(); }
  [[nodiscard]] std::optional<Frame> take() noexcept override {
    const bool is_first = next_ == 0;
    Place& place = places_[next_++];
    if (!place.is_at_tap) return Frame{place.frame.data() + headroom, static_cast<std::uint32_t>(place.frame.size()) - headroom, headroom, true};
    if (!is_first) {
      on_the_way_.emplace_back([this, &place] {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        way_in_.send(Octets(place.frame.begin() + headroom, place.frame.end()));
      });
    }
    return std::nullopt;
  }
  void release() noexcept override {}

 private:
  static constexpr std::uint32_t headroom = 40;

  const Ear& way_in_;
  std::vector<Place> places_;
  std::vector<std::thread> on_the_way_;
  std::atomic<bool> is_called_ = true;
  std::size_t next_ = 0;
};

}  // namespace

// Also when it comes late: another processor leads it there.
TEST_CASE(a_frame_that_goes_by_the_tap_keeps_its_place_among_those_of_the_ring) {
  if (!has_own_network()) return;
  const Descriptor descriptor = open_tap("in");
  const Tap tap(descriptor.number(), TapOffload::udp);
  const Ear kernel("in");
  const auto sa = Keys(Cipher::aes_128_gcm, Integrity::none, 0x3a).sa();
  Snapshot<SaTable> sas;
  auto table = std::make_shared<SaTable>();
  table->inbound = SaSet({sa});
  sas.set(std::move(table));

  std::array<Octets, 6> plain, sealed;
  for (std::size_t number = 0; number < plain.size(); ++number) {
    plain[number] = ipv4(Octets(40, static_cast<std::uint8_t>(number)));
    Buffer buffer(plain[number]);
    buffer.packet.sa = sa.get();
    Esp esp;
    esp.encapsulate({&buffer.packet, 1});
    sealed[number] = frame_around(buffer.octets());
  }
  CallingRing ring(kernel, {{sealed[0], true}, {sealed[1], false}, {sealed[2], false}, {sealed[3], true}, {sealed[4], false}, {sealed[5], false}});
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
