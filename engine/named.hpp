// What is counted or told of by number and shown by name.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace groupvpn {

template <typename Kind>
struct Named {
  Kind kind;
  std::string_view name;
};

// Whether each name stands at its number, where it is looked for.
template <typename Kind, std::size_t size>
constexpr bool stands_in_order(const std::array<Named<Kind>, size>& names) noexcept {
  for (std::size_t index = 0; index < size; ++index) {
    if (names[index].kind != static_cast<Kind>(index)) return false;
  }
  return true;
}

}  // namespace groupvpn
