// What Python may ask of SAs, in any order: make one of any form, let go of it, put some into force, seal, open, tell the time. SAs come to
// be or are refused with an EngineError; what one seals fits its promise, is opened whole by its twin, never twice, and never when it was changed. Nothing passes
// beyond a hard limit, each end is told once, and what was used stays used.
//
// The input is a sequence of operations: an octet that says which and on which of the slots, then what `Input` reads for it.
#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "../tests/build.hpp"
#include "error.hpp"
#include "events.hpp"
#include "lifetime.hpp"
#include "outer.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

constexpr std::size_t slots = 8;

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  [[nodiscard]] bool is_empty() const { return size_ == 0; }
  std::uint8_t octet() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  std::uint32_t below(std::uint32_t limit) { return octet() % limit; }
  std::uint32_t number() { return octet() | static_cast<std::uint32_t>(octet()) << 8; }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
};

// What a key has been used for, as it was seen last.
struct Used {
  const Usage* usage = nullptr;
  std::uint64_t packets = 0, octets = 0;
};

// One SA as its sender and its receiver hold it: same keys, and a receiver's own window.
struct Pair {
  std::shared_ptr<Sa> sender, receiver;
  std::uint8_t key = 0;
  bool is_tunnel = false, tells_replays = false;
  Family outer = Family::none;
  Limits limits;
  bool is_apart = false;
  Used sent, received;
};

struct Sealed {
  Octets inner, outer;
  Pair by;
  bool was_opened = false;
};

class World {
 public:
  void run(Input& input) {
    while (!input.is_empty()) {
      const std::uint8_t operation = input.octet();
      const std::size_t slot = operation >> 3 & (slots - 1);
      switch (operation & 7) {
        case 0: make(slot, input, operation); break;
        case 1: pairs_[slot] = {}; break;
        case 2: enforce(input.octet()); break;
        case 3: seal(slot, input); break;
        case 4: open(input, false); break;
        case 5: open(input, true); break;
        case 6: now_ += input.number(); break;
        default: tell_time(slot, input); break;
      }
      look();
    }
  }

 private:
  void make(std::size_t slot, Input& input, std::uint8_t operation);
  void add_more(SaParameters& parameters, Pair& pair, Input& input);
  void look();
  void enforce(std::uint8_t which);
  void seal(std::size_t slot, Input& input);
  void open(Input& input, bool is_changed);
  void check_iv(const Pair& pair, Octets outer);
  void tell_time(std::size_t slot, Input& input) {
    const std::int64_t origin = static_cast<std::int64_t>(input.number()) * 16 - 500'000;
    for (const auto& sa : {pairs_[slot].sender, pairs_[slot].receiver}) {
      if (sa && sa->timed() != nullptr) sa->timed()->set_origin(origin);
    }
  }

  Pair pairs_[slots];
  std::shared_ptr<SaSet> set_ = std::make_shared<SaSet>();
  std::vector<Sealed> sealed_;
  std::set<std::tuple<std::uint8_t, std::uint8_t, std::uint64_t>> ivs_;  // under the key of this length and these octets
  std::map<std::pair<EventKind, std::uint32_t>, std::size_t> told_;
  std::map<std::uint32_t, std::size_t> telling_;  // SAs of an SPI that tell
  std::shared_ptr<SaCounters> counters_ = std::make_shared<SaCounters>();
  std::uint64_t encrypted_ = 0, decrypted_ = 0;  // that it should show
  std::int64_t now_ = 50'000;
  inline static const std::shared_ptr<EventQueue> events_ = std::make_shared<EventQueue>();
  inline static Esp esp_;
};

Used used_by(Sa& sa) {
  const Usage& usage = sa.lifetime().usage();
  return {&usage, usage.packets.load(), usage.bytes.load()};
}

// An SA that tells events has no deadline: these the queue looks for by the clock of the machine, and ours is another one.
void World::add_more(SaParameters& parameters, Pair& pair, Input& input) {
  const std::uint8_t more = input.octet();
  if ((more & 1) != 0) {
    parameters.limits.hard_packets = input.below(32);
    parameters.limits.soft_packets = input.below(32);
  }
  if ((more & 2) != 0) {
    parameters.limits.hard_bytes = input.number();
    parameters.limits.soft_bytes = input.number();
  }
  if ((more & 4) != 0) {
    parameters.events = events_;
  } else if ((more & 8) != 0) {
    parameters.limits.hard_deadline = now_ + input.number();
    parameters.limits.soft_deadline = now_ + input.number();
  }
  if ((more & 16) != 0) parameters.counters = counters_;
  parameters.is_apart = pair.is_apart = (more & 32) != 0;
  pair.limits = parameters.limits;
}

// No end of an SA is told twice, and nothing that was used is given back.
void World::look() {
  for (const Event& event : events_->drain()) {
    if (event.kind < EventKind::unknown_spi && ++told_[{event.kind, event.spi}] > telling_[event.spi]) __builtin_trap();
  }
  for (Pair& pair : pairs_) {
    for (const auto& [sa, before] : {std::pair(pair.sender, &pair.sent), std::pair(pair.receiver, &pair.received)}) {
      if (!sa) continue;
      const Used now = used_by(*sa);
      if (now.usage != before->usage || now.packets < before->packets || now.octets < before->octets) __builtin_trap();
      *before = now;
    }
  }
  if (counters_->encrypted_packets != encrypted_ || counters_->decrypted_packets != decrypted_) __builtin_trap();
}

// A packet has passed.
void check_limits(Sa& sa, const Limits& limits, std::int64_t now) {
  const Used used = used_by(sa);
  if (limits.counts_volume() && (used.packets > limits.hard_packets || used.octets > limits.hard_bytes)) __builtin_trap();
  if (now >= limits.hard_deadline) __builtin_trap();
}

// Of the operation a bit says whether the SA has more than a form, and another one whether it is of the key and the SPI of the next slot.
void World::make(std::size_t slot, Input& input, std::uint8_t operation) {
  const auto cipher = static_cast<Cipher>(input.below(static_cast<std::uint32_t>(Cipher::aes_256_ctr) + 1));
  const auto integrity = static_cast<Integrity>(input.below(static_cast<std::uint32_t>(Integrity::hmac_sha2_512_256) + 1));
  const Pair& next = pairs_[(slot + 1) % slots];
  const bool is_again = (operation & 0x80) != 0 && next.sender;
  const std::uint8_t own_key = input.octet(), key = is_again ? next.key : own_key;
  const std::uint8_t form = input.octet(), more = input.octet();
  const Keys keys(cipher, integrity, key);
  SaParameters parameters = keys.parameters((form & 1) != 0 ? 0x1000 + static_cast<std::uint32_t>(slot) : 0x1000);
  if ((form & 2) != 0) parameters.protocol = Protocol::ah;
  if ((form & 4) != 0) parameters.mode = Mode::transport;
  if ((form & 24) == 8) parameters.endpoints = Endpoints{Family::ipv4, {192, 0, 2, 1}, {192, 0, 2, 2}};
  if ((form & 24) == 16) parameters.endpoints = Endpoints{Family::ipv6, {0x20, 1, 0xd, 0xb8}, {0x20, 1, 0xd, 0xb9}};
  if ((form & 32) != 0) parameters.udp = UdpPorts{4500, 4500};
  if ((form & 64) != 0) parameters.extended_sequence = true;
  if ((form & 128) != 0) parameters.time = TimeWindow{input.octet(), input.number(), 0, now_};
  parameters.df = static_cast<DontFragment>(more % 3);
  if ((more & 4) != 0) parameters.tos = more;
  if ((more & 8) != 0) parameters.replay_window = input.number();
  if ((more & 16) != 0) parameters.sender_id = input.octet();
  if ((more & 32) != 0) parameters.sender_id_bits = input.below(36);
  if ((more & 64) != 0) parameters.last_sequence = (std::uint64_t{1} << input.below(64)) - input.below(4);
  if ((more & 128) != 0) parameters.spi = input.number();
  if (is_again) parameters.spi = next.sender->spi();
  Pair pair{.key = key, .is_tunnel = parameters.mode == Mode::tunnel, .tells_replays = parameters.replay_window != 0 && !parameters.time,
            .outer = parameters.endpoints.value_or(Endpoints{}).family};
  if ((operation & 0x40) != 0) add_more(parameters, pair, input);
  try {
    pair.sender = std::make_shared<Sa>(parameters);
    pair.receiver = std::make_shared<Sa>(parameters);
  } catch (const EngineError&) {
    return;
  }
  if (parameters.events) telling_[parameters.spi] += 2;
  if ((operation & 0x40) != 0 && (key & 1) != 0) pair.receiver->keep_at_least(Sa::maximum_replay_window);
  pair.sent = used_by(*pair.sender);
  pair.received = used_by(*pair.receiver);
  if ((pair.sent.usage == pair.received.usage) == pair.is_apart) __builtin_trap();
  pairs_[slot] = std::move(pair);
}

void World::enforce(std::uint8_t which) {
  std::vector<std::shared_ptr<Sa>> chosen;
  for (std::size_t slot = 0; slot < slots; ++slot) {
    if ((which >> slot & 1) != 0 && pairs_[slot].receiver) chosen.push_back(pairs_[slot].receiver);
  }
  try {
    const auto made = std::make_shared<SaSet>(chosen);
    for (const auto& sa : chosen) {
      if (made->find(sa->spi()) != sa.get()) __builtin_trap();
    }
    set_ = made;
  } catch (const EngineError&) {
    return;
  }
}

Octets packet_of(std::uint8_t form, std::uint32_t length) {
  if ((form & 1) == 0) return ipv4(Octets(std::max<std::uint32_t>(length, 20) - 20, form), {.tos = static_cast<std::uint8_t>(form & 0xfc)});
  Octets packet(std::max<std::uint32_t>(length, 40), form);
  store32(&packet[0], 0x60000000);
  store16(&packet[4], static_cast<std::uint16_t>(packet.size() - 40));
  packet[6] = protocol_udp;
  return packet;
}

// A packet that the SA takes as the longest that fits does fit, and one octet more does not.
void World::seal(std::size_t slot, Input& input) {
  const Pair& pair = pairs_[slot];
  const std::uint8_t form = input.octet();
  const std::uint32_t mtu = 256 + input.below(64);
  const bool is_ipv6 = (form & 1) != 0, is_longest = (form & 2) != 0 && !is_ipv6 && pair.sender;
  const std::uint32_t longest = is_longest ? pair.sender->inner_mtu(mtu) : 0, beyond = form >> 2 & 1;
  const Octets packet = packet_of(form, is_longest ? longest + beyond : input.number() % 2000);
  Buffer buffer(packet);
  buffer.packet.sa = pair.sender.get();
  esp_.encapsulate({&buffer.packet, 1}, now_);
  if (buffer.packet.reason != Reason::delivered) return;
  if (!pair.sender) __builtin_trap();
  check_limits(*pair.sender, pair.limits, now_);
  if (&pair.sender->counters() == counters_.get()) ++encrypted_;
  const Octets outer = buffer.octets();
  if (is_longest && pair.outer != Family::ipv6 && (outer.size() <= mtu) != (beyond == 0)) __builtin_trap();
  check_iv(pair, outer);
  if (sealed_.size() < 64) sealed_.push_back({packet, outer, pair});
}

// No IV of a cipher that counts is used twice under one key, by this cipher or another one, with Sender-IDs of any width.
void World::check_iv(const Pair& pair, Octets outer) {
  Packet packet;
  packet.data = outer.data();
  packet.length = static_cast<std::uint32_t>(outer.size());
  if (parse_outer(packet) != Reason::delivered) __builtin_trap();
  const CipherTraits& cipher = traits(pair.sender->cipher());
  if (cipher.is_counter_mode() && !ivs_.emplace(cipher.key, pair.key, load64(packet.data + 8)).second) __builtin_trap();
}

void World::open(Input& input, bool is_changed) {
  if (sealed_.empty()) return;
  Sealed& sealed = sealed_[input.below(static_cast<std::uint32_t>(sealed_.size()))];
  const Pair& pair = sealed.by;
  Octets octets = sealed.outer;
  if (is_changed) {
    const std::size_t from = family_of(octets[0]) == Family::ipv6 ? 48 : 28;  // behind UDP, or behind the SPI
    if (octets.size() <= from) return;
    octets[from + input.number() % (octets.size() - from)] ^= static_cast<std::uint8_t>(input.octet() | 1);
  }
  Buffer buffer(octets);
  esp_.decapsulate(*set_, {&buffer.packet, 1}, now_);
  events_->notice(buffer.packet);
  if (buffer.packet.reason != Reason::delivered) return;
  if (&buffer.packet.sa->counters() == counters_.get()) ++decrypted_;
  if (buffer.packet.sa != pair.receiver.get()) return;  // another SA of the same SPI and keys may open it
  check_limits(*pair.receiver, pair.limits, now_);
  if (is_changed && pair.receiver->icv_length() != 0) __builtin_trap();
  if (pair.tells_replays && std::exchange(sealed.was_opened, true)) __builtin_trap();
  if (!is_changed && pair.is_tunnel && buffer.octets() != sealed.inner) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 1024) return 0;
  Input input(data, size);
  World().run(input);
  return 0;
}
