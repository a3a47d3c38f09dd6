// ESP security associations as the engine holds them, and the set that finds one by its SPI.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "crypto.hpp"
#include "frame_ring.hpp"
#include "ledger.hpp"
#include "lifetime.hpp"
#include "packet.hpp"
#include "reason.hpp"
#include "timed.hpp"

namespace groupvpn {

enum class Protocol : std::uint8_t { esp = protocol_esp, ah = protocol_ah };
enum class Mode : std::uint8_t { tunnel, transport };
enum class DontFragment : std::uint8_t { copy, set, clear };

// Addresses that the outer header of a tunnel has whatever is inside. Of one family.
struct Endpoints {
  Family family = Family::none;
  Address source{}, destination{};
};

struct UdpPorts {
  std::uint16_t source = 0, destination = 0;
};

// Packets that were protected and verified, and the octets inside. SAs that follow each other may count in one: then nothing is missing that a
// thread still does with the earlier one. Apart in memory by what writes them: a thread that encrypts, or one that decrypts, again and again.
struct SaCounters {
  alignas(64) std::atomic<std::uint64_t> encrypted_packets{0};
  std::atomic<std::uint64_t> encrypted_bytes{0};
  alignas(64) std::atomic<std::uint64_t> decrypted_packets{0};
  std::atomic<std::uint64_t> decrypted_bytes{0};
};

struct SaParameters {
  std::uint32_t spi = 0;
  Protocol protocol = Protocol::esp;
  Mode mode = Mode::tunnel;
  std::optional<Endpoints> endpoints;  // none: the outer header repeats the addresses inside (RFC 5374 3.1)
  std::optional<UdpPorts> udp;         // ESP goes out in UDP (RFC 3948)
  Cipher cipher = Cipher::null;
  std::span<const std::uint8_t> encryption_key;
  Integrity integrity = Integrity::none;
  std::span<const std::uint8_t> integrity_key;
  std::span<const std::uint8_t> salt;
  std::optional<std::uint32_t> sender_id;  // ours; none: this SA may not send if its cipher counts
  unsigned sender_id_bits = 24;
  std::uint32_t replay_window = 0;  // packets; for each Sender-ID of a counter-mode cipher, else for all senders together
  std::optional<TimeWindow> time;   // replays are told by time, and by the counter of each sender where the packet has room for one
  bool extended_sequence = false;   // ESN (RFC 4303 2.2.1), for an SA with one sender
  DontFragment df = DontFragment::copy;
  std::optional<std::uint8_t> tos;  // of the outer header, but for the two bits of ECN, which are copied; none: copied whole
  bool is_apart = false;            // shares no memory with other SAs of these keys, as one in another process would not: for tests and simulations
  std::uint64_t last_sequence = 0;  // used up before this SA was made, by an earlier life of the process
  Limits limits;
  std::shared_ptr<EventQueue> events;    // is told of this SA's end; none: nobody is
  std::shared_ptr<SaCounters> counters;  // in which it counts; none: in its own

  // With a time window the sequence number is a stamp, and the number of the packet has to be found in the IV: in clear with a counter-mode
  // cipher, enciphered with another one. NULL has no IV.
  [[nodiscard]] bool hides_counter() const noexcept { return time && !traits(cipher).is_counter_mode() && traits(cipher).iv != 0; }
  [[nodiscard]] bool has_counter_in_iv() const noexcept { return traits(cipher).is_counter_mode() || hides_counter(); }
  // Whether packets name their sender.
  [[nodiscard]] bool tells_senders() const noexcept { return has_counter_in_iv() && sender_id_bits != 0; }
  // What stands in front of the counter there (RFC 6054 3).
  [[nodiscard]] std::uint64_t begin_of_iv() const noexcept {
    return sender_id && sender_id_bits != 0 ? std::uint64_t{*sender_id} << (64 - sender_id_bits) : 0;
  }
};

// What the sender of a packet writes into it: the sequence number, and the explicit IV of counter modes.
struct Grant {
  Reason reason;
  std::uint64_t sequence;  // packets carry its lower half
  std::uint64_t iv;
};

// What tells a packet that came from every other one of its SA.
struct Origin {
  std::uint64_t sequence;  // the whole of it
  std::uint32_t sender;
  std::uint64_t number;    // among those of its sender, where the sequence number is a stamp of time
};

// One SA of ESP or AH, for both ways. All members of a group share its keys; any thread may use it.
class Sa {
 public:
  static constexpr unsigned maximum_sender_id_bits = 32;
  static constexpr std::uint32_t maximum_replay_window = 4096;

  // EngineError for sizes that do not fit the algorithms, and for what does not go together.
  explicit Sa(const SaParameters& parameters);

  [[nodiscard]] std::uint32_t spi() const noexcept { return spi_; }
  [[nodiscard]] Cipher cipher() const noexcept { return cipher_; }
  [[nodiscard]] Integrity integrity() const noexcept { return integrity_; }
  [[nodiscard]] const Schedule& schedule() const noexcept { return schedule_; }
  [[nodiscard]] Protocol protocol() const noexcept { return protocol_; }
  [[nodiscard]] Mode mode() const noexcept { return mode_; }
  [[nodiscard]] const Endpoints& endpoints() const noexcept { return endpoints_; }  // family none: a tunnel that preserves addresses
  [[nodiscard]] bool preserves_addresses() const noexcept { return mode_ == Mode::tunnel && endpoints_.family == Family::none; }
  [[nodiscard]] const std::optional<UdpPorts>& udp() const noexcept { return udp_; }
  [[nodiscard]] bool has_extended_sequence() const noexcept { return extended_sequence_; }
  [[nodiscard]] DontFragment df() const noexcept { return df_; }
  [[nodiscard]] std::optional<std::uint8_t> tos() const noexcept { return tos_; }
  // Its IV is a counter beside a salt (CipherTraits).
  [[nodiscard]] bool is_counter_mode() const noexcept { return is_counter_mode_; }
  [[nodiscard]] std::uint32_t iv_length() const noexcept { return iv_length_; }
  [[nodiscard]] std::uint32_t icv_length() const noexcept { return icv_length_; }
  [[nodiscard]] std::uint32_t alignment() const noexcept { return alignment_; }

  // Octets of AH before a payload whose IP header is of this family, ICV and padding included (RFC 4302 2.2).
  [[nodiscard]] std::uint32_t ah_length(Family family) const noexcept {
    const std::uint32_t unit = family == Family::ipv6 ? 8 : 4;
    return (ah_fixed_size + icv_length_ + unit - 1) / unit * unit;
  }

  // Octets of the longest packet that encapsulation makes with a header of this family. The ICV of AH covers all of it, and behind it the upper
  // half of an extended sequence number; that of ESP covers less than `maximum_covered` in any packet.
  [[nodiscard]] std::uint32_t maximum_length(Family outer) const noexcept {
    const auto longest = static_cast<std::uint32_t>(outer == Family::ipv6 ? ipv6_maximum_size : ipv4_maximum_size);
    return protocol_ == Protocol::ah ? std::min(longest, maximum_covered - (extended_sequence_ ? 4U : 0U)) : longest;
  }

  // Octets of the longest packet of a family that still fits an IP packet of `mtu` octets after encapsulation; 0: none does. In transport mode
  // the IP header stays outside, with options or with the extension headers that every router reads (Ipv6Chain::unfragmentable): `header` octets,
  // 0 for a header without them.
  [[nodiscard]] std::uint32_t inner_mtu(std::uint32_t mtu, Family inner = Family::ipv4, std::uint32_t header = 0) const noexcept;

  // Takes the next number. A number is never given twice for one key and Sender-ID, nor an IV for one key, in the life of the process (ledger.hpp).
  Grant next_sequence(std::int64_t now = boot_milliseconds()) noexcept;
  [[nodiscard]] std::uint64_t last_sequence() const noexcept { return std::min(sequence_->last.load(std::memory_order_relaxed), sequence_limit_); }
  [[nodiscard]] std::uint64_t sequence_limit() const noexcept { return sequence_limit_; }

  // Who has a window of its own, by the explicit IV or the counter that an IV hides: its leftmost 32 bits, which are the Sender-ID (RFC 6054 3) and,
  // if that is shorter, the upper bits of the counter. 0 where the cipher has no counter there. So it does not matter how wide a Sender-ID is:
  // a member may have to receive before it knows, and what it has received counts when it does.
  [[nodiscard]] std::uint32_t sender_of(const std::uint8_t* iv) const noexcept { return tells_senders_ ? load32(iv) : 0; }
  // The packet's number among those of such a sender. They rise from anywhere.
  static std::uint64_t number_of(const std::uint8_t* iv) noexcept { return load64(iv); }
  // Fills in what tells a packet, which carries `low` and `iv`, and says whether it may be new: delivered, replayed, too_old or too_new. Nothing
  // changes, since nothing is authenticated yet. Where the IV hides the counter `look_closer` goes on when it is known.
  Reason look(Origin& origin, std::uint32_t low, const std::uint8_t* iv, std::int64_t now) noexcept;
  Reason look_closer(Origin& origin, const std::uint8_t* counter, std::int64_t now) noexcept;
  // The same for a packet that was authenticated, and from now on is known; also too_many_senders.
  Reason accept(const Origin& origin, std::int64_t now) noexcept;

  // Makes each replay window at least so large from now on, also in SAs that are made of these keys later; an SA without a window gets none. For
  // a receiver that may itself have packets overtake each other: a window that was chosen for the network is too small then, and how much is
  // remembered is the receiver's own affair (RFC 4303 3.4.3).
  void keep_at_least(std::uint32_t packets);

  // Whether receivers may take packets for replays that come behind many later ones.
  [[nodiscard]] bool wants_order() const noexcept { return checks_replay_ || extended_sequence_ || timed_ != nullptr; }

  // Whoever numbers packets of this SA holds it until they have left; null: their order does not matter.
  [[nodiscard]] std::mutex* order() const noexcept { return order_; }

  // How packets that come may be spread over workers. That of a peer alone (no Sender-ID) may have any IV.
  [[nodiscard]] Spread spread() const noexcept {
    if (!wants_order()) return Spread::by_addresses;
    return is_counter_mode_ && tells_senders_ ? Spread::by_sender : Spread::by_spi;
  }

  // Whether decapsulation needs octets before the SPI: the header, which transport mode keeps, or room, which combined ciphers take for extended
  // sequence numbers (Operation).
  [[nodiscard]] bool reaches_before() const noexcept {
    return mode_ == Mode::transport || (extended_sequence_ && traits(cipher_).is_combined());
  }

  // Whether an encapsulated packet has parts that are written after its ICV (`Esp::finish`).
  [[nodiscard]] bool needs_finish() const noexcept { return protocol_ == Protocol::ah || udp_.has_value(); }

  // How much of the SA is used up. It is over for both ways at once.
  [[nodiscard]] Lifetime& lifetime() noexcept { return *lifetime_; }

  // Time-based anti-replay, if the SA has it, and the key for counters where they hide in the IV.
  [[nodiscard]] TimedReplay* timed() noexcept { return timed_.get(); }
  [[nodiscard]] const Schedule* counter_schedule() const noexcept { return counter_schedule_.get(); }

  void count_encrypted(std::uint64_t packets, std::uint64_t octets) noexcept;
  void count_decrypted(std::uint64_t packets, std::uint64_t octets) noexcept;
  [[nodiscard]] const SaCounters& counters() const noexcept { return *counters_; }

 private:
  Grant exhausted() noexcept;

  Schedule schedule_;
  std::uint32_t spi_;
  Protocol protocol_;
  Mode mode_;
  Endpoints endpoints_;
  std::optional<UdpPorts> udp_;
  std::optional<std::uint8_t> tos_;
  bool extended_sequence_;
  Cipher cipher_;
  Integrity integrity_;
  bool is_counter_mode_;
  std::uint8_t iv_length_;
  std::uint8_t icv_length_;
  std::uint8_t alignment_;
  DontFragment df_;
  bool may_send_;
  bool has_counter_in_iv_;
  std::uint64_t sequence_limit_;
  bool tells_senders_;
  std::uint64_t sender_id_in_iv_ = 0;
  std::shared_ptr<Sequence> sequence_;

  std::uint64_t soft_sequence_;  // from here on the sequence is said to run out
  bool checks_replay_;
  std::shared_ptr<KeyMemory> memory_;
  std::shared_ptr<TimedReplay> timed_;  // of `memory_`
  std::unique_ptr<Schedule> counter_schedule_;
  std::shared_ptr<Lifetime> lifetime_;
  std::shared_ptr<SaCounters> counters_;
  std::mutex* order_ = nullptr;  // of `sequence_`
};

// Two octets that tell steering which selectors judge a packet that was decrypted. They mean nothing to the engine.
using Tag = std::array<std::uint8_t, 2>;
using Tags = std::map<std::uint32_t, Tag>;  // by SPI

// The SAs that decrypt, found by SPI in constant time. Immutable: a change makes a new one.
class SaSet {
 public:
  SaSet() : SaSet(std::vector<std::shared_ptr<Sa>>{}) {}
  // An SA of which `tags` says nothing has the tag 0, of which steering knows nothing. EngineError if two SAs have one SPI.
  explicit SaSet(std::vector<std::shared_ptr<Sa>> sas, const Tags& tags = {});

  [[nodiscard]] Sa* find(std::uint32_t spi) const noexcept { return slot_of(spi).sa; }
  [[nodiscard]] Tag tag_of(const Sa& sa) const noexcept { return slot_of(sa.spi()).tag; }

 private:
  struct Slot {
    Sa* sa = nullptr;
    Tag tag{};
  };

  [[nodiscard]] static std::size_t hash(std::uint32_t spi) noexcept { return (spi * 0x9e3779b97f4a7c15ULL) >> 40; }
  [[nodiscard]] const Slot& slot_of(std::uint32_t spi) const noexcept {
    for (std::size_t number = hash(spi);; ++number) {
      const Slot& slot = table_[number & mask_];
      if (slot.sa == nullptr || slot.sa->spi() == spi) return slot;
    }
  }

  std::vector<std::shared_ptr<Sa>> sas_;
  std::size_t mask_;
  std::vector<Slot> table_;  // open addressing, at most half full, so that a search ends
};

}  // namespace groupvpn
