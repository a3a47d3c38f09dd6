// Options that Python gives by name.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

namespace groupvpn {

// What `Given::take` says of a value that is none of its type.
template <typename Value>
inline constexpr const char* expected = "of the type that it has to be";
template <>
inline constexpr const char* expected<bool> = "True or False";
template <>
inline constexpr const char* expected<double> = "a number";
template <>
inline constexpr const char* expected<std::uint8_t> = "a whole number from 0 to 255";
template <>
inline constexpr const char* expected<std::uint32_t> = "a whole number from 0 to 2^32 - 1";
template <>
inline constexpr const char* expected<std::uint64_t> = "a whole number from 0 to 2^64 - 1";
template <>
inline constexpr const char* expected<std::int64_t> = "a whole number of 64 bits";
template <>
inline constexpr const char* expected<std::string> = "a word";

// Values that were given by name; None is as good as nothing.
class Given {
 public:
  // ValueError for a name that is none.
  Given(const nanobind::dict& values, const char* what) : what_(what) {
    for (const auto& [key, value] : values) {
      std::string name;
      if (!nanobind::try_cast(key, name)) {
        throw nanobind::value_error((std::string(what) + " " + nanobind::repr(key).c_str() + " is no name").c_str());
      }
      values_.emplace(std::move(name), nanobind::borrow(value));
    }
  }

  // ValueError for what does not fit.
  template <typename Value>
  std::optional<Value> take(const char* name) {
    const auto item = values_.extract(name);
    if (item.empty() || item.mapped().is_none()) return std::nullopt;
    Value result{};
    if (nanobind::try_cast(item.mapped(), result)) return result;
    throw nanobind::value_error((std::string(name) + " is " + nanobind::repr(item.mapped()).c_str() + ", not " + expected<Value>).c_str());
  }
  template <typename Value>
  Value take(const char* name, Value otherwise) {
    return take<Value>(name).value_or(std::move(otherwise));
  }

  // ValueError for what nobody has taken.
  void finish() const {
    if (!values_.empty()) throw nanobind::value_error(("unknown " + std::string(what_) + " \"" + values_.begin()->first + "\"").c_str());
  }

 private:
  const char* what_;
  std::map<std::string, nanobind::object> values_;
};

}  // namespace groupvpn
