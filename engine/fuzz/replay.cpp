// Gives a fuzz target the inputs of its corpus, without a fuzzer: `replay_TARGET FOLDER…`. A finding ends the process.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

std::string current;

// The sanitizers end in abort() when they are asked to, a target's own checks in an illegal instruction.
void tell(int signal_number) {
  static_cast<void>(!write(STDERR_FILENO, current.data(), current.size()));
  signal(signal_number, SIG_DFL);
  raise(signal_number);
}

void replay(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  const std::vector<char> octets{std::istreambuf_iterator<char>(stream), {}};
  const std::unique_ptr<std::uint8_t[]> exact(new std::uint8_t[octets.size()]);  // no octet more, so that a sanitizer sees an overrun
  std::copy(octets.begin(), octets.end(), exact.get());
  LLVMFuzzerTestOneInput(exact.get(), octets.size());
}

}  // namespace

int main(int count, char** arguments) {
  signal(SIGILL, tell);
  signal(SIGABRT, tell);
  std::vector<std::filesystem::path> files;
  for (int index = 1; index < count; ++index) {
    for (const auto& entry : std::filesystem::directory_iterator(arguments[index])) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  for (const std::filesystem::path& file : files) {
    current = "found something: " + file.string() + "\n";
    replay(file);
  }
  return files.empty() ? EXIT_FAILURE : EXIT_SUCCESS;
}
