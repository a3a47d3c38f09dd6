// What became of a packet: delivered, or the one reason why not. No packet disappears uncounted.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "named.hpp"

namespace groupvpn {

enum class Reason : std::uint8_t {
  delivered,           // left by the wire, or went back to the kernel decrypted
  oversize,            // larger than the buffer: truncated by the read
  not_ip,              // the link header names neither IPv4 nor IPv6
  malformed,           // IP header: version, lengths, the end of a fragment, a chain of IPv6 headers, or a checksum request that points outside;
                       // inbound: a source route or routing header that is not used up
  header_checksum,     // checksum of the outer IPv4 header
  fragment,            // a fragment whose datagram was never completed, overlapped or found no room, or that came twice or can be part of none
  not_esp,             // inbound: neither ESP nor AH, nor UDP
  keepalive,           // UDP with the one octet 0xFF, which keeps the mapping of a NAT alive (RFC 3948 2.3)
  non_esp_marker,      // UDP that begins with four octets 0: IKE, which is not for the engine (RFC 3948 2.2)
  unknown_spi,         // no SA with this SPI
  esp_length,          // too short for its SA, or no whole number of cipher blocks
  replayed,            // left of the window, or seen before (RFC 4303 3.4.3)
  too_old,             // its pseudotime is further back than the time window reaches, or than this SA has known of
  too_new,             // its pseudotime is further ahead than the time window reaches
  too_many_senders,    // a new Sender-ID where no replay window is free for it
  authentication,      // the ICV does not verify
  padding,             // pad length beyond the payload, or pad octets that are not 1, 2, 3, ... (RFC 4303 2.4)
  dummy,               // next header 59: traffic flow confidentiality, made to be thrown away (RFC 4303 2.6)
  next_header,         // neither IPv4 nor IPv6 inside
  inner_malformed,     // decrypted IPv4 or IPv6 header that does not hold together
  address_mismatch,    // inner addresses differ from the outer ones: not address preserving
  congestion,          // outer CE on what is not ECN-capable (RFC 6040 4.2), or of which another fragment is not (RFC 3168 5.3)
  no_sa,               // no SA to protect with
  no_sender_id,        // outbound: the SA needs a Sender-ID and we have none (RFC 6054); inbound: the IV holds no counter of a sender
  sequence_exhausted,  // sequence or IV counter used up
  lifetime,            // the SA has reached a hard limit (RFC 4301 4.4.2.1)
  too_big,             // larger than the wire takes, and DF forbids fragments; or than IP can say, or AH cover
  crypto_failure,      // the cryptographic library refused the job
  send_failed,         // the wire did not take it
  inject_failed,       // the kernel did not take the decrypted frame
};

inline constexpr std::array<Named<Reason>, 30> reason_names = {{
    {Reason::delivered, "delivered"},
    {Reason::oversize, "oversize"},
    {Reason::not_ip, "not_ip"},
    {Reason::malformed, "malformed"},
    {Reason::header_checksum, "header_checksum"},
    {Reason::fragment, "fragment"},
    {Reason::not_esp, "not_esp"},
    {Reason::keepalive, "keepalive"},
    {Reason::non_esp_marker, "non_esp_marker"},
    {Reason::unknown_spi, "unknown_spi"},
    {Reason::esp_length, "esp_length"},
    {Reason::replayed, "replayed"},
    {Reason::too_old, "too_old"},
    {Reason::too_new, "too_new"},
    {Reason::too_many_senders, "too_many_senders"},
    {Reason::authentication, "authentication"},
    {Reason::padding, "padding"},
    {Reason::dummy, "dummy"},
    {Reason::next_header, "next_header"},
    {Reason::inner_malformed, "inner_malformed"},
    {Reason::address_mismatch, "address_mismatch"},
    {Reason::congestion, "congestion"},
    {Reason::no_sa, "no_sa"},
    {Reason::no_sender_id, "no_sender_id"},
    {Reason::sequence_exhausted, "sequence_exhausted"},
    {Reason::lifetime, "lifetime"},
    {Reason::too_big, "too_big"},
    {Reason::crypto_failure, "crypto_failure"},
    {Reason::send_failed, "send_failed"},
    {Reason::inject_failed, "inject_failed"},
}};
static_assert(stands_in_order(reason_names) && reason_names.back().kind == Reason::inject_failed);

constexpr std::string_view name(Reason reason) noexcept { return reason_names[static_cast<std::size_t>(reason)].name; }

// Counters of one thread. One writer, any number of readers, so a relaxed load and store is enough and costs no locked instruction.
class Counter {
 public:
  void add(std::uint64_t amount = 1) noexcept { value_.store(value_.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

class ReasonCounters {
 public:
  void add(Reason reason, std::uint64_t amount = 1) noexcept { counters_[static_cast<std::size_t>(reason)].add(amount); }
  [[nodiscard]] std::uint64_t value(Reason reason) const noexcept { return counters_[static_cast<std::size_t>(reason)].value(); }

 private:
  std::array<Counter, reason_names.size()> counters_;
};

}  // namespace groupvpn
