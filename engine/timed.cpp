#include "timed.hpp"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <time.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>

#include "error.hpp"
#include "packet.hpp"

namespace groupvpn {
namespace {

constexpr std::int64_t milliseconds = 1000;
constexpr std::string_view iv_label = "groupvpn ESP counter in IV";

std::int64_t checked(std::uint32_t value, std::uint32_t maximum, const char* what) {
  if (value == 0 || value > maximum) {
    throw EngineError(std::string(what) + " of " + std::to_string(value) + " is outside 1 to " + std::to_string(maximum));
  }
  return value;
}

}  // namespace

std::int64_t checked_moment(std::int64_t moment, const char* what) {
  if (moment < -furthest_moment || moment > furthest_moment) throw EngineError(std::string(what) + " of " + std::to_string(moment) + " is no moment");
  return moment;
}

TimedReplay::TimedReplay(const TimeWindow& time, std::uint32_t window)
    : seconds_(time.seconds),
      tick_(checked(time.tick, maximum_tick, "a tick in milliseconds")),
      reach_(checked(time.seconds, maximum_seconds, "a time window in seconds") * milliseconds / tick_),
      window_(window),
      origin_(checked_moment(time.origin, "the origin of pseudotime")),
      floor_(ticks(checked_moment(time.since, "the moment")) - 1),
      kept_(window),
      pause_(std::max<std::int64_t>(reach_ / 16, 1)) {}

void TimedReplay::keep_at_least(std::uint32_t packets) {
  if (window_ == 0) return;
  const std::lock_guard lock(mutex_);
  kept_ = std::max(kept_, packets);
}

std::int64_t TimedReplay::ticks(std::int64_t now) const noexcept {
  const std::int64_t since = now - origin_.load(std::memory_order_relaxed);
  return since >= 0 ? since / tick_ : (since - tick_ + 1) / tick_;
}

Reason TimedReplay::judge(std::uint32_t stamp, std::int64_t now) const noexcept {
  const std::int64_t own = ticks(now);
  const std::int64_t age = own - moment(stamp, own);
  if (age > reach_) return Reason::too_old;
  return age < -reach_ ? Reason::too_new : Reason::delivered;
}

Reason TimedReplay::look(std::uint32_t sender, std::uint64_t number, std::uint32_t stamp, std::int64_t now) noexcept {
  if (window_ == 0) return Reason::delivered;
  const std::lock_guard lock(mutex_);
  const std::int64_t sent = moment(stamp, ticks(now));
  if (const Sender* known = senders_.find(sender)) {
    if (may_have_been_seen(*known, number, sent)) return Reason::too_old;
    return known->window.is_acceptable(number) ? Reason::delivered : Reason::replayed;
  }
  if (number == 0) return Reason::replayed;
  return sent > floor_ ? Reason::delivered : Reason::too_old;
}

Reason TimedReplay::accept(std::uint32_t sender, std::uint64_t number, std::uint32_t stamp, std::int64_t now) {
  if (window_ == 0) return Reason::delivered;
  const std::lock_guard lock(mutex_);
  const std::int64_t own = ticks(now);
  const std::int64_t sent = moment(stamp, own);
  Sender* known = senders_.find(sender);
  if (known == nullptr) {
    if (number == 0) return Reason::replayed;
    if (sent <= floor_) return Reason::too_old;
    if (senders_.size() >= SenderBudget::senders(kept_) && !make_room(own - reach_)) return Reason::too_many_senders;
    known = senders_.add(sender, kept_, number, floor_);
    known->newest = sent;
    oldest_kept_ = std::min(oldest_kept_, sent);
  } else if (may_have_been_seen(*known, number, sent)) {
    return Reason::too_old;
  }
  known->newest = std::max(known->newest, sent);
  known->window.widen(kept_);
  return known->window.accept(number) ? Reason::delivered : Reason::replayed;
}

std::size_t TimedReplay::senders() noexcept {
  const std::lock_guard lock(mutex_);
  return senders_.size();
}

std::size_t TimedReplay::octets() noexcept {
  const std::lock_guard lock(mutex_);
  return senders_.size() * SenderBudget::octets_for(kept_);
}

std::uint64_t TimedReplay::scans() noexcept {
  const std::lock_guard lock(mutex_);
  return scans_;
}

// Gives up the windows whose every packet is too old by now. The floor keeps what they knew, should our clock be set back.
bool TimedReplay::make_room(std::int64_t oldest) {
  if (oldest <= oldest_kept_ || (oldest >= looked_at_ && oldest - looked_at_ < pause_)) return false;
  looked_at_ = oldest;
  ++scans_;
  oldest_kept_ = std::numeric_limits<std::int64_t>::max();
  const std::size_t given_up = senders_.erase_if([&](const Sender& sender) {
    if (sender.newest >= oldest) {
      oldest_kept_ = std::min(oldest_kept_, sender.newest);
      return false;
    }
    floor_ = std::max(floor_, sender.newest);
    return true;
  });
  return given_up != 0;
}

void CounterBlocks::prepare(Schedule& schedule, Cipher cipher, std::span<const std::uint8_t> encryption_key, Crypto& crypto) {
  std::array<std::uint8_t, 32> key{};
  unsigned length = key.size();
  const bool is_derived = HMAC(EVP_sha256(), encryption_key.data(), static_cast<int>(encryption_key.size()),
                               reinterpret_cast<const std::uint8_t*>(iv_label.data()), iv_label.size(), key.data(), &length) != nullptr;
  if (is_derived) crypto.prepare_blocks(schedule, cipher, key.data());
  explicit_bzero(key.data(), key.size());
  if (!is_derived) throw EngineError("HMAC-SHA-256 failed: no key for the counters of an SA");  // one of zeros would be nobody's secret
}

// One block in CBC mode with an IV of zeros is the block cipher itself.
void CounterBlocks::add(const Schedule& schedule, Cipher cipher, std::size_t owner) noexcept {
  Operation& operation = operations_[count_];
  operation.use(schedule, cipher, Integrity::none);
  operation.place(blocks_[count_].data(), 0, traits(cipher).iv);
  operation.iv.fill(0);
  owners_[count_++] = owner;
}

void CounterBlocks::put(std::uint64_t counter) noexcept {
  blocks_[count_ - 1].fill(0);
  store64(blocks_[count_ - 1].data(), counter);
}

void CounterBlocks::take(const std::uint8_t* iv, std::size_t length) noexcept { std::memcpy(blocks_[count_ - 1].data(), iv, length); }

bool CounterBlocks::is_counter(std::size_t index) const noexcept {
  const std::uint8_t* rest = blocks_[index].data() + 8;
  return operations_[index].is_done && std::all_of(rest, blocks_[index].data() + operations_[index].payload_length, [](std::uint8_t octet) { return octet == 0; });
}

}  // namespace groupvpn
