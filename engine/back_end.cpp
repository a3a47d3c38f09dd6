#include "back_end.hpp"

#include <array>
#include <utility>

#include "error.hpp"

namespace groupvpn {
namespace {

template <typename Method, std::size_t count>
Method named(std::string_view name, const std::array<std::pair<std::string_view, Method>, count>& methods, const char* what) {
  std::string known;
  for (const auto& [text, method] : methods) {
    if (text == name) return method;
    known += (known.empty() ? "" : ", ") + std::string(text);
  }
  throw EngineError("no " + std::string(what) + " back end \"" + std::string(name) + "\"; there are " + known);
}

}  // namespace

TransmitMethod transmit_method_named(std::string_view name) {
  using enum TransmitMethod;
  static constexpr std::array<std::pair<std::string_view, TransmitMethod>, 5> methods = {
      {{"auto", automatic}, {"bpf", bpf}, {"xdp", xdp}, {"packet", packet}, {"raw", raw}}};
  return named(name, methods, "transmit");
}

ReceiveMethod receive_method_named(std::string_view name) {
  using enum ReceiveMethod;
  static constexpr std::array<std::pair<std::string_view, ReceiveMethod>, 4> methods = {
      {{"auto", automatic}, {"bpf", bpf}, {"ring", ring}, {"tap", tap}}};
  return named(name, methods, "receive");
}

}  // namespace groupvpn
