// Python bindings of ports. What they promise stands in src/groupvpn/_engine.pyi.
#include "port_module.hpp"

#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "error.hpp"
#include "handles.hpp"
#include "port.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace groupvpn {
namespace {

// One of something for each worker; one alone stands for itself.
template <typename Value>
using OneOrMore = std::variant<Value, std::vector<Value>>;

template <typename Value>
std::vector<Value> all_of(const OneOrMore<Value>& values) {
  if (const Value* one = std::get_if<Value>(&values)) return {*one};
  return std::get<std::vector<Value>>(values);
}

void make_port(Port* self, const std::string& wan, const OneOrMore<int>& inbound_taps, const nb::bytes& token, std::uint32_t wire_mtu,
               std::uint32_t mark, std::string_view transmit, std::string_view receive, const EventsHandle* events,
               const std::vector<int>& processors) {
  PortParameters parameters{.wan = wan,
                            .inbound_taps = all_of(inbound_taps),
                            .token = {},
                            .wire_mtu = wire_mtu,
                            .mark = mark,
                            .transmit = transmit_method_named(transmit),
                            .receive = receive_method_named(receive),
                            .processors = processors};
  if (token.size() != parameters.token.size()) {
    throw EngineError("the token has " + std::to_string(token.size()) + " octets, a MAC address has 6");
  }
  std::memcpy(parameters.token.data(), token.data(), token.size());
  if (events != nullptr) parameters.events = events->queue;
  new (self) Port(parameters);
}

std::pair<std::string, std::string> pair_of(const BackEnd& back_end) { return {back_end.name, back_end.reason}; }

Tags tags_of(const std::map<std::uint32_t, nb::bytes>& given) {
  Tags tags;
  for (const auto& [spi, octets] : given) {
    Tag& tag = tags[spi];
    if (octets.size() != tag.size()) throw EngineError("a tag has 2 octets, not " + std::to_string(octets.size()));
    std::memcpy(tag.data(), octets.data(), tag.size());
  }
  return tags;
}

void set_sas(Port& port, const std::vector<const SaHandle*>& inbound, const std::map<std::size_t, OneOrMore<const SaHandle*>>& outbound,
             const std::map<std::uint32_t, nb::bytes>& given) {
  std::vector<std::shared_ptr<Sa>> decrypting = sas_of(inbound);
  std::map<std::size_t, Senders> encrypting;
  for (const auto& [queue, handles] : outbound) encrypting[queue] = sas_of(all_of(handles));
  const Tags tags = tags_of(given);
  const nb::gil_scoped_release release;  // threads that decrypt have the windows, which are asked to be wider
  port.set_sas(std::move(decrypting), encrypting, tags);
}

nb::dict dict_of(const NamedCounters& counters) {
  nb::dict result;
  for (const auto& [key, value] : counters) result[nb::str(key.c_str())] = value;
  return result;
}

}  // namespace

void bind_port(nb::module_& m) {
  using Release = nb::call_guard<nb::gil_scoped_release>;
  nb::class_<Port>(m, "Port")
      .def("__init__", &make_port, "wan"_a, "tap_in_fd"_a, "token"_a, "wire_mtu"_a, "mark"_a = 0,
           "transmit"_a = "auto", "receive"_a = "auto", "events"_a = nb::none(), "processors"_a = std::vector<int>{})
      .def("add_outbound", [](Port& self, const OneOrMore<int>& taps) { return self.add_outbound(all_of(taps)); }, "tap_fd"_a, Release())
      .def("remove_outbound", &Port::remove_outbound, "queue"_a, Release())
      .def("start", &Port::start, Release())
      .def("stop", &Port::stop, Release())
      .def("discard", [](Port& self) { return dict_of(self.discard()); })
      .def("set_sas", &set_sas, "inbound"_a, "outbound"_a, "tags"_a = std::map<std::uint32_t, nb::bytes>{})
      .def("set_wire_mtu", &Port::set_wire_mtu, "mtu"_a)
      .def("set_fragments_after", &Port::set_fragments_after, "after"_a)
      .def("counters", [](const Port& self) { return dict_of(self.counters()); })
      .def("traffic", [](const Port& self) { return dict_of(self.traffic()); })
      .def_prop_ro("workers", &Port::workers)
      .def_prop_ro("receivers", &Port::receivers)
      .def("transmit", [](const Port& self, std::size_t worker) { return pair_of(self.transmit().at(worker)); }, "worker"_a = 0)
      .def("receive", [](const Port& self) { return pair_of(self.receive()); })
      .def_prop_ro("ring_limit", &Port::ring_limit)
      .def_prop_ro("copy_limit", &Port::copy_limit)
      .def_prop_ro("ring_program", &Port::ring_program)
      .def("overruns", [](const Port& port) { return dict_of(port.overruns()); })
      .def("fault", &Port::fault);
}

}  // namespace groupvpn
