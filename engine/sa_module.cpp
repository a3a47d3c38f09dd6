// Python bindings of SAs. What they promise stands in src/groupvpn/_engine.pyi.
#include "sa_module.hpp"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include <cstring>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "error.hpp"
#include "given.hpp"
#include "handles.hpp"
#include "sa.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace groupvpn {

using EndpointOctets = std::pair<nb::bytes, nb::bytes>;
using Ports = std::pair<std::uint16_t, std::uint16_t>;

template <>
inline constexpr const char* expected<Ports> = "two ports from 0 to 65535";
template <>
inline constexpr const char* expected<EndpointOctets> = "two addresses, in octets";

namespace {

std::span<const std::uint8_t> octets_of(const nb::bytes& bytes) { return {static_cast<const std::uint8_t*>(bytes.data()), bytes.size()}; }

template <typename Value>
Value named(std::string_view name, const char* what, std::initializer_list<std::pair<std::string_view, Value>> values) {
  for (const auto& [known, value] : values) {
    if (known == name) return value;
  }
  throw EngineError("unknown " + std::string(what) + " \"" + std::string(name) + "\"");
}

Endpoints endpoints_of(const EndpointOctets& octets) {
  const auto& [source, destination] = octets;
  if (source.size() != destination.size() || (source.size() != 4 && source.size() != 16)) {
    throw EngineError("end points of " + std::to_string(source.size()) + " and " + std::to_string(destination.size()) +
                      " octets, both must have 4 (IPv4) or 16 (IPv6)");
  }
  Endpoints endpoints{source.size() == 4 ? Family::ipv4 : Family::ipv6, {}, {}};
  std::memcpy(endpoints.source.data(), source.data(), source.size());
  std::memcpy(endpoints.destination.data(), destination.data(), destination.size());
  return endpoints;
}

std::int64_t deadline_of(Given& given, const char* name) {
  const std::optional<double> seconds = given.take<double>(name);
  if (!seconds) return Limits::never;
  if (*seconds >= 0 && *seconds < 1e12) return static_cast<std::int64_t>(*seconds * 1000);
  throw nb::value_error((std::string(name) + " is no moment: seconds since the machine started").c_str());
}

Limits limits_of(const nb::dict& values) {
  Given given(values, "limit");
  Limits limits;
  limits.soft_bytes = given.take("soft_bytes", Limits::no_limit);
  limits.hard_bytes = given.take("hard_bytes", Limits::no_limit);
  limits.soft_packets = given.take("soft_packets", Limits::no_limit);
  limits.hard_packets = given.take("hard_packets", Limits::no_limit);
  limits.soft_deadline = deadline_of(given, "soft_deadline");
  limits.hard_deadline = deadline_of(given, "hard_deadline");
  given.finish();
  return limits;
}

std::optional<TimeWindow> time_of(Given& given) {
  const auto seconds = given.take<std::uint32_t>("time_window");
  TimeWindow time;
  time.tick = given.take("tick", time.tick);
  time.origin = given.take("pseudotime_origin", time.origin);
  time.since = given.take("now", time.since);
  if (!seconds) return std::nullopt;
  time.seconds = *seconds;
  return time;
}

template <typename Handle>
const Handle* handle_of(Given& given, const char* name) {
  return given.take<const Handle*>(name).value_or(nullptr);
}

// What of an SA is named: `values` is what it may have beside its algorithms and keys. The keys stay the caller's.
SaParameters parameters_of(const nb::dict& values) {
  Given given(values, "option of an SA");
  SaParameters parameters;
  parameters.protocol = named<Protocol>(given.take<std::string>("protocol", "esp"), "protocol", {{"esp", Protocol::esp}, {"ah", Protocol::ah}});
  parameters.mode = named<Mode>(given.take<std::string>("mode", "tunnel"), "mode", {{"tunnel", Mode::tunnel}, {"transport", Mode::transport}});
  parameters.df = named<DontFragment>(given.take<std::string>("df", "copy"), "rule for DF",
                                      {{"copy", DontFragment::copy}, {"set", DontFragment::set}, {"clear", DontFragment::clear}});
  if (const auto endpoints = given.take<EndpointOctets>("endpoints")) parameters.endpoints = endpoints_of(*endpoints);
  if (const auto udp = given.take<Ports>("udp")) parameters.udp = UdpPorts{udp->first, udp->second};
  parameters.extended_sequence = given.take("extended_sequence", false);
  parameters.tos = given.take<std::uint8_t>("tos");
  parameters.sender_id = given.take<std::uint32_t>("sender_id");
  parameters.sender_id_bits = given.take<std::uint32_t>("sender_id_bits", parameters.sender_id_bits);
  parameters.replay_window = given.take("replay_window", parameters.replay_window);
  parameters.last_sequence = given.take("last_sequence", parameters.last_sequence);
  parameters.time = time_of(given);
  parameters.is_apart = given.take("apart", false);
  if (const auto limits = given.take<nb::dict>("limits")) parameters.limits = limits_of(*limits);
  if (const auto* events = handle_of<EventsHandle>(given, "events")) parameters.events = events->queue;
  if (const auto* counters = handle_of<CountersHandle>(given, "counters")) parameters.counters = counters->counters;
  given.finish();
  return parameters;
}

void make_sa(SaHandle* self, std::uint32_t spi, std::string_view cipher, const nb::bytes& encryption_key, std::string_view integrity,
             const nb::bytes& integrity_key, const nb::bytes& salt, const nb::kwargs& options) {
  SaParameters parameters = parameters_of(options);
  parameters.spi = spi;
  parameters.cipher = cipher_named(cipher);
  parameters.encryption_key = octets_of(encryption_key);
  parameters.integrity = integrity_named(integrity);
  parameters.integrity_key = octets_of(integrity_key);
  parameters.salt = octets_of(salt);
  new (self) SaHandle{std::make_shared<Sa>(parameters)};
}

void set_pseudotime(const SaHandle& handle, std::int64_t origin) {
  checked_moment(origin, "the origin of pseudotime");
  if (TimedReplay* timed = handle.sa->timed()) timed->set_origin(origin);
}

std::uint32_t inner_mtu(const SaHandle& handle, std::uint32_t wire_mtu, int family, std::uint32_t header) {
  if (family != 4 && family != 6) throw EngineError("there is no IP version " + std::to_string(family));
  if (header > ipv6_maximum_size) throw EngineError("no packet has a header of " + std::to_string(header) + " octets");
  return handle.sa->inner_mtu(wire_mtu, static_cast<Family>(family), header);
}

nb::dict dict_of(const SaCounters& counters) {
  nb::dict result;
  result["encrypted_packets"] = counters.encrypted_packets.load(std::memory_order_relaxed);
  result["encrypted_bytes"] = counters.encrypted_bytes.load(std::memory_order_relaxed);
  result["decrypted_packets"] = counters.decrypted_packets.load(std::memory_order_relaxed);
  result["decrypted_bytes"] = counters.decrypted_bytes.load(std::memory_order_relaxed);
  return result;
}

nb::dict counters_of(const SaHandle& handle) {
  nb::dict result = dict_of(handle.sa->counters());
  result["last_sequence"] = handle.sa->last_sequence();
  return result;
}

}  // namespace

void bind_sa(nb::module_& m) {
  nb::class_<CountersHandle>(m, "SaCounters")
      .def(nb::init<>())
      .def("read", [](const CountersHandle& self) { return dict_of(*self.counters); });
  nb::class_<SaHandle>(m, "Sa")
      .def("__init__", &make_sa, "spi"_a, "cipher"_a, "encryption_key"_a, "integrity"_a, "integrity_key"_a, "salt"_a = nb::bytes("", 0),
           "options"_a)
      .def("set_pseudotime", &set_pseudotime, "origin"_a)
      .def_prop_ro("spi", [](const SaHandle& self) { return self.sa->spi(); })
      .def_prop_ro("sequence_limit", [](const SaHandle& self) { return self.sa->sequence_limit(); })
      .def("inner_mtu", &inner_mtu, "wire_mtu"_a, "family"_a = 4, "header"_a = 0)
      .def("counters", &counters_of);
}

}  // namespace groupvpn
