// Microbenchmarks of the engine's stages.
//
//   micro                 lists their names
//   micro NAME TURNS      does the work of NAME so many times, and prints the operations that one turn does and nanoseconds per operation
//
// Instructions are counted from outside: the difference of two runs with different TURNS leaves out what set-up costs.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "checksum.hpp"
#include "coalesce.hpp"
#include "cut.hpp"
#include "esp.hpp"
#include "replay.hpp"
#include "sa.hpp"
#include "timed.hpp"

using namespace groupvpn;

namespace {

using Octets = std::vector<std::uint8_t>;
using Turn = std::function<void()>;

// What is done once per turn, and how many operations (packets, lookups) that is.
struct Work {
  Turn turn;
  std::size_t operations;
};

using Registry = std::map<std::string, std::function<Work()>>;

constexpr std::size_t burst_size = 64;
constexpr std::uint32_t first_spi = 0x1000;
constexpr std::size_t slot_size = 2048;
constexpr std::size_t link_size = 14;
constexpr std::uint32_t inner_mtu = 1400;
volatile std::uintptr_t sink;  // keeps results alive

struct Suite {
  const char* name;
  Cipher cipher;
  Integrity integrity;
};

constexpr Suite suites[] = {
    {"gcm", Cipher::aes_128_gcm, Integrity::none},
    {"cbc-sha1", Cipher::aes_128_cbc, Integrity::hmac_sha1_96},
    {"cbc256-sha256", Cipher::aes_256_cbc, Integrity::hmac_sha2_256_128},
};

std::shared_ptr<Sa> make_sa(const Suite& suite, std::uint32_t spi, std::uint32_t replay_window = 0, bool is_timed = false) {
  const Octets encryption(traits(suite.cipher).key, 1), integrity(traits(suite.integrity).key, 2), salt(traits(suite.cipher).salt, 3);
  SaParameters parameters;
  parameters.spi = spi;
  parameters.cipher = suite.cipher;
  parameters.encryption_key = encryption;
  parameters.integrity = suite.integrity;
  parameters.integrity_key = integrity;
  parameters.salt = salt;
  parameters.replay_window = replay_window;
  if (traits(suite.cipher).is_counter_mode() || is_timed) parameters.sender_id = spi;
  if (is_timed) parameters.time = TimeWindow{100, 10, boot_milliseconds(), boot_milliseconds()};
  return std::make_shared<Sa>(parameters);
}

void write_ipv4(std::uint8_t* octets, std::size_t size, std::uint8_t protocol) {
  std::memset(octets, 0, size);
  octets[0] = 0x45;
  store16(octets + 2, static_cast<std::uint16_t>(size));
  octets[8] = 64;
  octets[9] = protocol;
  store32(octets + 12, 0x0a010001);
  store32(octets + 16, 0x0a020001);
  write_header_checksum(octets);
}

// A burst of packets in slots of their own, put back to what they were before each turn.
class Burst {
 public:
  explicit Burst(std::size_t size, Sa* sa) : storage_(burst_size * slot_size), packets_(burst_size), sa_(sa) {
    original_.resize(size);
    write_ipv4(original_.data(), size, protocol_udp);
    originals_.assign(burst_size, original_);
  }

  std::span<Packet> fresh() {
    for (std::size_t index = 0; index < burst_size; ++index) {
      std::uint8_t* data = &storage_[index * slot_size + esp_headroom];
      std::memcpy(data, originals_[index].data(), originals_[index].size());
      const auto size = static_cast<std::uint32_t>(originals_[index].size());
      packets_[index] = Packet{data, size, esp_headroom, static_cast<std::uint32_t>(slot_size) - esp_headroom - size, Reason::delivered, sa_};
    }
    return packets_;
  }

  // What the packets are now is what they will be put back to.
  void keep() {
    for (std::size_t index = 0; index < burst_size; ++index) {
      originals_[index].assign(packets_[index].data, packets_[index].data + packets_[index].length);
    }
  }

 private:
  Octets storage_;
  std::vector<Packet> packets_;
  Sa* sa_;
  Octets original_;
  std::vector<Octets> originals_;
};

void demand_delivered(std::span<const Packet> packets) {
  for (const Packet& packet : packets) {
    if (packet.reason != Reason::delivered) std::abort();
  }
}

struct EspBench {
  EspBench(const Suite& suite, std::size_t size, bool is_timed) : sa(make_sa(suite, first_spi, 0, is_timed)), set({sa}), burst(size, sa.get()) {}
  Esp esp;
  std::shared_ptr<Sa> sa;
  SaSet set;
  Burst burst;
};

Work encapsulate(const Suite& suite, std::size_t size, bool is_timed = false) {
  const auto bench = std::make_shared<EspBench>(suite, size, is_timed);
  return {[bench] {
            const auto packets = bench->burst.fresh();
            bench->esp.encapsulate(packets);
            demand_delivered(packets);
          },
          burst_size};
}

Work decapsulate(const Suite& suite, std::size_t size, bool is_timed = false) {
  const auto bench = std::make_shared<EspBench>(suite, size, is_timed);
  bench->esp.encapsulate(bench->burst.fresh());
  bench->burst.keep();
  return {[bench] {
            const auto packets = bench->burst.fresh();
            bench->esp.decapsulate(bench->set, packets);
            demand_delivered(packets);
          },
          burst_size};
}

// The cipher and MAC alone, without headers, padding and sequence numbers.
Work seal(const Suite& suite, std::size_t size) {
  struct State {
    Crypto crypto;
    std::shared_ptr<Sa> sa;
    Octets storage = Octets(burst_size * slot_size);
    std::vector<Operation> operations;
  };
  const auto state = std::make_shared<State>();
  state->sa = make_sa(suite, first_spi);
  for (std::size_t index = 0; index < burst_size; ++index) {
    Operation operation{};
    operation.schedule = &state->sa->schedule();
    operation.cipher = suite.cipher;
    operation.integrity = suite.integrity;
    operation.place(&state->storage[index * slot_size], 8 + state->sa->iv_length(), static_cast<std::uint32_t>(size / 16 * 16));
    state->operations.push_back(operation);
  }
  return {[state] { state->crypto.seal(state->operations); }, burst_size};
}

Work find(std::uint32_t count) {
  std::vector<std::shared_ptr<Sa>> sas;
  for (std::uint32_t index = 0; index < count; ++index) sas.push_back(make_sa(suites[1], first_spi + index * 7919));
  const auto set = std::make_shared<SaSet>(sas);
  return {[set, count] {
            for (std::uint32_t index = 0; index < 1000; ++index) {
              sink = reinterpret_cast<std::uintptr_t>(set->find(first_spi + index % count * 7919));
            }
          },
          1000};
}

Work replay(std::uint32_t size) {
  struct State {
    explicit State(std::uint32_t window) : replay(window) {}
    ReplayWindow replay;
    std::uint32_t next = 1;
  };
  const auto state = std::make_shared<State>(size);
  return {[state] {
            for (int index = 0; index < 1000; ++index) {
              sink = state->replay.is_acceptable(state->next);
              if (!state->replay.accept(state->next++)) std::abort();
            }
          },
          1000};
}

// A frame as the kernel hands it over: one super-packet of `segments` times `payload` octets, its checksum still to be completed.
struct SuperFrame {
  SuperFrame(std::uint8_t protocol, std::uint32_t payload, std::uint32_t segments) {
    const bool is_tcp = protocol == protocol_tcp;
    const std::uint32_t header = is_tcp ? 20 : 8;
    octets.resize(link_size + ipv4_header_size + header + std::size_t{segments} * payload);
    const std::size_t size = octets.size() - link_size;
    write_ipv4(&octets[link_size], size, protocol);
    std::uint8_t* transport = &octets[link_size + ipv4_header_size];
    store16(transport, 1025);
    store16(transport + 2, 80);
    if (is_tcp) {
      transport[12] = 5 << 4;
      transport[13] = 0x10;  // ACK
    } else {
      store16(transport + 4, static_cast<std::uint16_t>(size - ipv4_header_size));
    }
    offload.flags = Offload::needs_checksum;
    offload.gso_type = is_tcp ? Offload::gso_tcp4 : Offload::gso_udp_segmentation;
    offload.segment_size = static_cast<std::uint16_t>(payload);
    offload.checksum_start = static_cast<std::uint16_t>(link_size + ipv4_header_size);
    offload.checksum_offset = is_tcp ? 16 : 6;
  }

  void cut(Cutter& cutter, PacketSink& sink) {
    const auto ip = Ipv4::parse(&octets[link_size], octets.size() - link_size);
    const Reason reason = cutter.cut(octets.data(), link_size, *ip, offload, {inner_mtu, false}, sink);
    if (reason != Reason::delivered) std::abort();
  }

  Octets octets;
  Offload offload;
};

// Takes what a cutter writes; keeps it if asked.
class Room final : public PacketSink {
 public:
  explicit Room(bool keeps) : keeps_(keeps) {}
  std::uint8_t* open(std::uint32_t) noexcept override { return room_.data(); }
  void commit(std::uint32_t length) noexcept override {
    ++count;
    if (keeps_) packets.emplace_back(room_.data(), room_.data() + length);
  }
  std::size_t count = 0;
  std::vector<Octets> packets;

 private:
  bool keeps_;
  std::array<std::uint8_t, slot_size> room_{};
};

// An operation is one packet that comes out.
Work cut(std::uint8_t protocol, std::uint32_t payload, std::uint32_t segments) {
  struct State {
    SuperFrame frame;
    Cutter cutter{1};
    Room room{false};
  };
  const auto state = std::make_shared<State>(State{SuperFrame(protocol, payload, segments)});
  return {[state] { state->frame.cut(state->cutter, state->room); }, segments};
}

// The packets that such a frame was cut into become one again; an operation is one of them.
// All of one flow, or each of another one.
Work coalesce(std::uint8_t protocol, std::uint32_t payload, std::uint32_t segments, bool is_one_flow = true) {
  struct State {
    Coalescer coalescer{true};
    std::vector<Octets> originals;
    Octets storage;
    std::vector<Packet> packets;
  };
  const auto state = std::make_shared<State>();
  Room room(true);
  Cutter cutter(1);
  SuperFrame(protocol, payload, segments).cut(cutter, room);
  state->originals = room.packets;
  for (std::size_t index = 0; index < segments && !is_one_flow; ++index) state->originals[index][20] ^= static_cast<std::uint8_t>(index);  // the source port
  state->storage.resize(slot_size * segments);
  state->packets.resize(segments);
  return {[state, segments, wanted = is_one_flow ? 1U : segments] {
            for (std::size_t index = 0; index < segments; ++index) {
              const Octets& original = state->originals[index];
              std::uint8_t* data = &state->storage[index * slot_size];
              std::memcpy(data, original.data(), original.size());
              state->packets[index] = Packet{data, static_cast<std::uint32_t>(original.size()), 0, 0, Reason::delivered, nullptr};
            }
            if (state->coalescer.couple(state->packets).size() != wanted) std::abort();
          },
          segments};
}

// A packet's way through time-based anti-replay, without finding its counter; senders take turns of 32 packets.
Work timed_window(std::uint32_t senders) {
  struct State {
    TimedReplay timed{TimeWindow{5, 10, 0, 0}, 1024};
    std::uint64_t next = 1;
  };
  const auto state = std::make_shared<State>();
  return {[state, senders] {
            for (std::size_t packet = 0; packet < 1024; ++packet, ++state->next) {
              const auto sender = static_cast<std::uint32_t>(state->next / 32 % senders);
              if (state->timed.judge(100, 1000) != Reason::delivered) std::abort();
              if (state->timed.look(sender, state->next, 100, 1000) != Reason::delivered) std::abort();
              if (state->timed.accept(sender, state->next, 100, 1000) != Reason::delivered) std::abort();
            }
          },
          1024};
}

// What the engine does not do: remember the ICV of every packet in the time window, for ciphers with no counter in the packet. Two tables, the
// older one thrown away as a whole when the newer is as old as the window is wide; half full at most. Kept here to know what it would cost.
Work seen_set(std::size_t packets) {
  struct State {
    explicit State(std::size_t capacity) : tables{std::vector<std::uint64_t>(2 * capacity), std::vector<std::uint64_t>(2 * capacity)} {}
    bool insert(std::uint64_t icv) {
      const std::size_t mask = tables[0].size() - 1;
      for (std::size_t slot = icv & mask; tables[1][slot] != 0; slot = (slot + 1) & mask) {
        if (tables[1][slot] == icv) return false;
      }
      for (std::size_t slot = icv & mask;; slot = (slot + 1) & mask) {
        if (tables[0][slot] == icv) return false;
        if (tables[0][slot] == 0) {
          tables[0][slot] = icv;
          return true;
        }
      }
    }
    std::array<std::vector<std::uint64_t>, 2> tables;
    std::uint64_t icv = 1;
    std::size_t filled = 0;
  };
  const auto state = std::make_shared<State>(packets);
  return {[state, packets] {
            for (std::size_t packet = 0; packet < 1024; ++packet) {
              state->icv = state->icv * 6364136223846793005ULL + 1442695040888963407ULL;  // as good as an ICV for a hash
              if (!state->insert(state->icv ^ state->icv >> 29)) std::abort();
              if (++state->filled == packets) {
                state->filled = 0;
                state->tables[0].swap(state->tables[1]);
                std::fill(state->tables[0].begin(), state->tables[0].end(), 0);
              }
            }
          },
          1024};
}

Registry registry() {
  Registry works;
  for (const Suite& suite : suites) {
    for (const std::size_t size : {64U, 512U, 1400U}) {
      const std::string tail = std::string("/") + suite.name + "/" + std::to_string(size);
      works["crypto" + tail] = [&suite, size] { return seal(suite, size); };
      works["encapsulate" + tail] = [&suite, size] { return encapsulate(suite, size); };
      works["decapsulate" + tail] = [&suite, size] { return decapsulate(suite, size); };
    }
  }
  for (const Suite& suite : {suites[0], suites[1]}) {
    for (const std::size_t size : {64U, 1400U}) {
      const std::string tail = std::string("-timed/") + suite.name + "/" + std::to_string(size);
      works["encapsulate" + tail] = [suite, size] { return encapsulate(suite, size, true); };
      works["decapsulate" + tail] = [suite, size] { return decapsulate(suite, size, true); };
    }
  }
  for (const std::uint32_t senders : {1U, 200U}) works["timed-window/" + std::to_string(senders)] = [senders] { return timed_window(senders); };
  for (const std::size_t packets : {1U << 14, 1U << 21}) works["seen-set/" + std::to_string(packets)] = [packets] { return seen_set(packets); };
  for (const std::uint32_t count : {1U, 20U, 200U}) works["sa-lookup/" + std::to_string(count)] = [count] { return find(count); };
  for (const std::uint32_t size : {64U, 1024U}) works["replay-window/" + std::to_string(size)] = [size] { return replay(size); };
  works["cut/tcp/1400"] = [] { return cut(protocol_tcp, 1360, 48); };
  works["cut/udp/1400"] = [] { return cut(protocol_udp, 1372, 44); };
  works["cut/udp/64"] = [] { return cut(protocol_udp, 36, 44); };
  works["coalesce/tcp/1400"] = [] { return coalesce(protocol_tcp, 1360, 48); };
  works["coalesce/udp/1400"] = [] { return coalesce(protocol_udp, 1372, 44); };
  works["coalesce/flows/64"] = [] { return coalesce(protocol_udp, 36, Coalescer::maximum_burst, false); };
  works["coalesce/udp/64"] = [] { return coalesce(protocol_udp, 36, 44); };
  return works;
}

}  // namespace

int main(int count, char** words) try {
  const Registry works = registry();
  if (count != 3) {
    for (const auto& [name, make] : works) std::puts(name.c_str());
    return 0;
  }
  const auto found = works.find(words[1]);
  if (found == works.end()) {
    std::fprintf(stderr, "micro: no microbenchmark %s\n", words[1]);
    return 2;
  }
  const Work work = found->second();
  const long turns = std::strtol(words[2], nullptr, 10);
  const auto begin = std::chrono::steady_clock::now();
  for (long turn = 0; turn < turns; ++turn) work.turn();
  const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - begin;
  std::printf("%zu %.2f\n", work.operations, turns ? time.count() / static_cast<double>(turns) / static_cast<double>(work.operations) : 0.0);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "micro: %s\n", error.what());
  return 1;
}
