#include "harness.hpp"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <set>
#include <string_view>

namespace groupvpn::test {
namespace {

constexpr unsigned longest_case = 300;  // seconds, on a loaded machine under sanitizers

std::atomic<int> failures{0};  // cases may have threads
bool is_skipped = false;
std::set<std::string> reasons;
const char* running = "";

// A case that hangs would say nothing, for a case is named at its end.
void give_up(int) {
  constexpr std::string_view says = " takes too long\n";
  static_cast<void>(!write(STDERR_FILENO, running, std::strlen(running)));
  static_cast<void>(!write(STDERR_FILENO, says.data(), says.size()));
  _exit(1);
}

}  // namespace

std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

void fail(const char* file, int line, const std::string& what) {
  if (++failures <= 50) std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
}

void skip(const std::string& why) {
  is_skipped = true;
  reasons.insert(why);
}

}  // namespace groupvpn::test

// Runs every case, or those whose name contains the first argument.
int main(int count, char** arguments) {
  using namespace groupvpn::test;
  const std::string_view wanted = count > 1 ? arguments[1] : "";
  int run = 0, failed = 0, skipped = 0;
  std::signal(SIGALRM, give_up);
  for (const Case& test : cases()) {
    if (test.name.find(wanted) == std::string::npos) continue;
    const int before = failures;
    is_skipped = false;
    running = test.name.c_str();
    alarm(longest_case);
    const auto started = std::chrono::steady_clock::now();
    try {
      test.body();
    } catch (const std::exception& error) {
      fail(test.name.c_str(), 0, error.what());
    }
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - started).count();
    alarm(0);
    ++run;
    skipped += is_skipped;
    if (failures != before) ++failed;
    if (failures != before || took > 10000) {
      std::fprintf(stderr, "%s %s (%lld ms)\n", failures == before ? "slow  " : "FAILED", test.name.c_str(), static_cast<long long>(took));
    }
  }
  std::printf("%d engine tests, %d failed, %d skipped\n", run, failed, skipped);
  for (const std::string& why : reasons) std::printf("  skipped, whole or in part: %s\n", why.c_str());
  return failed == 0 && run != 0 ? 0 : 1;
}
