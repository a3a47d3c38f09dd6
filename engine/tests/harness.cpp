#include "harness.hpp"

#include <chrono>
#include <cstdio>
#include <exception>
#include <string_view>

namespace groupvpn::test {
namespace {
int failures = 0;
}

std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

void fail(const char* file, int line, const std::string& what) {
  ++failures;
  if (failures <= 50) std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
}

}  // namespace groupvpn::test

// Runs every case, or those whose name contains the first argument.
int main(int count, char** arguments) {
  using namespace groupvpn::test;
  const std::string_view wanted = count > 1 ? arguments[1] : "";
  int run = 0, failed = 0;
  for (const Case& test : cases()) {
    if (test.name.find(wanted) == std::string::npos) continue;
    const int before = failures;
    const auto started = std::chrono::steady_clock::now();
    try {
      test.body();
    } catch (const std::exception& error) {
      fail(test.name.c_str(), 0, error.what());
    }
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - started).count();
    ++run;
    if (failures != before) ++failed;
    if (failures != before || took > 10000) {
      std::fprintf(stderr, "%s %s (%lld ms)\n", failures == before ? "slow  " : "FAILED", test.name.c_str(), static_cast<long long>(took));
    }
  }
  std::printf("%d engine tests, %d failed\n", run, failed);
  return failed == 0 && run != 0 ? 0 : 1;
}
