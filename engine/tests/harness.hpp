// The few lines that our unit tests need: cases that register themselves, checks that say what failed and go on.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "error.hpp"

namespace groupvpn::test {

struct Case {
  std::string name;
  std::function<void()> body;
};

std::vector<Case>& cases();
void fail(const char* file, int line, const std::string& what);
// The case that runs lacks something of the machine; the summary says so.
void skip(const std::string& why);

struct Register {
  Register(const char* name, std::function<void()> body) { cases().push_back({name, std::move(body)}); }
};

// What the refusal of something says, or nothing if it was not refused.
template <typename Attempt>
std::string refusal_of(Attempt attempt) {
  try {
    attempt();
  } catch (const EngineError& error) {
    return error.what();
  }
  return "";
}

// Whether it comes true within the limit. It is looked at each millisecond.
template <typename Condition>
bool wait_until(Condition condition, std::chrono::milliseconds limit = std::chrono::seconds(5)) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

template <typename Left, typename Right>
void check_equal(const Left& left, const Right& right, const char* expression, const char* file, int line) {
  if (left == right) return;
  std::ostringstream text;
  text << expression << ": " << +left << " is not " << +right;
  fail(file, line, text.str());
}

// Random numbers that are the same in every run.
class Random {
 public:
  explicit Random(std::uint32_t seed) : engine_(seed) {}
  std::uint32_t below(std::uint32_t limit) { return static_cast<std::uint32_t>(engine_() % limit); }
  std::vector<std::uint8_t> octets(std::size_t count) {
    std::vector<std::uint8_t> result(count);
    for (std::uint8_t& octet : result) octet = static_cast<std::uint8_t>(engine_());
    return result;
  }
  std::mt19937_64& engine() { return engine_; }

 private:
  std::mt19937_64 engine_;
};

}  // namespace groupvpn::test

#define TEST_CASE(name)                                                   \
  static void name();                                                     \
  static const ::groupvpn::test::Register register_##name(#name, &name);  \
  static void name()

#define CHECK(condition)                                                      \
  do {                                                                        \
    if (!(condition)) ::groupvpn::test::fail(__FILE__, __LINE__, #condition); \
  } while (false)

#define CHECK_EQUAL(left, right) ::groupvpn::test::check_equal((left), (right), #left " == " #right, __FILE__, __LINE__)
