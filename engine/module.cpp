// Python bindings of the ESP engine. What they promise stands in src/groupvpn/_engine.pyi.
#include <malloc.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bpf_module.hpp"
#include "error.hpp"
#include "esp.hpp"
#include "events.hpp"
#include "port.hpp"
#include "sa.hpp"

namespace nb = nanobind;
using namespace nb::literals;
using namespace groupvpn;

namespace {

// Python owns this handle and not the SA itself: a thread of the engine that lets go of an SA last must not need the interpreter's lock.
struct SaHandle {
  std::shared_ptr<Sa> sa;
};

struct EventsHandle {
  std::shared_ptr<EventQueue> queue = std::make_shared<EventQueue>();
};

struct CountersHandle {
  std::shared_ptr<SaCounters> counters = std::make_shared<SaCounters>();
};

std::span<const std::uint8_t> octets_of(const nb::bytes& bytes) { return {static_cast<const std::uint8_t*>(bytes.data()), bytes.size()}; }

nb::bytes bytes_of(const Packet& packet) { return nb::bytes(packet.data, packet.length); }

using EndpointOctets = std::pair<nb::bytes, nb::bytes>;
using Ports = std::pair<std::uint16_t, std::uint16_t>;

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

// What `Given::take` says of a value that is none of its type.
template <typename Value>
constexpr const char* expected = "of the type that it has to be";
template <>
constexpr const char* expected<bool> = "True or False";
template <>
constexpr const char* expected<double> = "a number";
template <>
constexpr const char* expected<std::uint8_t> = "a whole number from 0 to 255";
template <>
constexpr const char* expected<std::uint32_t> = "a whole number from 0 to 2^32 - 1";
template <>
constexpr const char* expected<std::uint64_t> = "a whole number from 0 to 2^64 - 1";
template <>
constexpr const char* expected<std::int64_t> = "a whole number of 64 bits";
template <>
constexpr const char* expected<std::string> = "a word";
template <>
constexpr const char* expected<Ports> = "two ports from 0 to 65535";
template <>
constexpr const char* expected<EndpointOctets> = "two addresses, in octets";

// Values that were given by name; None is as good as nothing.
class Given {
 public:
  // ValueError for a name that is none.
  Given(const nb::dict& values, const char* what) : what_(what) {
    for (const auto& [key, value] : values) {
      std::string name;
      if (!nb::try_cast(key, name)) throw nb::value_error((std::string(what) + " " + nb::repr(key).c_str() + " is no name").c_str());
      values_.emplace(std::move(name), nb::borrow(value));
    }
  }

  // ValueError for what does not fit.
  template <typename Value>
  std::optional<Value> take(const char* name) {
    const auto item = values_.extract(name);
    if (item.empty() || item.mapped().is_none()) return std::nullopt;
    Value result{};
    if (nb::try_cast(item.mapped(), result)) return result;
    throw nb::value_error((std::string(name) + " is " + nb::repr(item.mapped()).c_str() + ", not " + expected<Value>).c_str());
  }
  template <typename Value>
  Value take(const char* name, Value otherwise) {
    return take<Value>(name).value_or(std::move(otherwise));
  }

  // ValueError for what nobody has taken.
  void finish() const {
    if (!values_.empty()) throw nb::value_error(("unknown " + std::string(what_) + " \"" + values_.begin()->first + "\"").c_str());
  }

 private:
  const char* what_;
  std::map<std::string, nb::object> values_;
};

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
  if (TimedReplay* timed = handle.sa->timed()) timed->set_origin(origin);
}

std::uint32_t inner_mtu(const SaHandle& handle, std::uint32_t wire_mtu, int family, std::uint32_t header) {
  if (family != 4 && family != 6) throw EngineError("there is no IP version " + std::to_string(family));
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

// The functions for tests and tools run the burst code of the data path on a burst of one. The interpreter's lock guards the engine.
Esp& esp_of_tools() {
  static Esp esp;
  return esp;
}

class Workspace {
 public:
  explicit Workspace(const nb::bytes& octets) : buffer_(esp_headroom + octets.size() + esp_tailroom) {
    packet_.data = buffer_.data() + esp_headroom;
    packet_.length = static_cast<std::uint32_t>(octets.size());
    packet_.headroom = esp_headroom;
    packet_.tailroom = esp_tailroom;
    if (octets.size() != 0) std::memcpy(packet_.data, octets.data(), octets.size());
  }
  Packet& packet() { return packet_; }

 private:
  std::vector<std::uint8_t> buffer_;
  Packet packet_;
};

nb::bytes encapsulate(const SaHandle& handle, const nb::bytes& octets, std::optional<std::int64_t> now) {
  Workspace workspace(octets);
  workspace.packet().sa = handle.sa.get();
  esp_of_tools().encapsulate({&workspace.packet(), 1}, now.value_or(boot_milliseconds()));
  if (workspace.packet().reason != Reason::delivered) throw EngineError("not encapsulated: " + std::string(name(workspace.packet().reason)));
  return bytes_of(workspace.packet());
}

std::pair<std::optional<nb::bytes>, std::string_view> decapsulate(const std::vector<const SaHandle*>& handles, const nb::bytes& octets,
                                                               std::optional<std::int64_t> now) {
  std::vector<std::shared_ptr<Sa>> sas;
  for (const SaHandle* handle : handles) sas.push_back(handle->sa);
  const SaSet set(std::move(sas));
  Workspace workspace(octets);
  esp_of_tools().decapsulate(set, {&workspace.packet(), 1}, now.value_or(boot_milliseconds()));
  if (workspace.packet().reason != Reason::delivered) return {std::nullopt, name(workspace.packet().reason)};
  return {bytes_of(workspace.packet()), "ok"};
}

nb::dict features() {
  const Crypto& crypto = esp_of_tools().crypto();
  nb::dict result;
  result["ipsec_mb"] = imb_get_version_str();
  result["architecture"] = crypto.architecture();
  result["des"] = crypto.uses_openssl_for_des() ? "openssl" : "ipsec-mb";
  result["clears_its_memory"] = crypto.clears_its_memory();
  return result;
}

nb::bytes octets_of(const Address& address, Family family) {
  return nb::bytes(address.data(), family == Family::none ? 0 : address_size(family));
}

nb::dict event_counters_of(const EventsHandle& events) {
  const EventQueue::Counters counters = events.queue->counters();
  nb::dict result;
  result["lost"] = counters.lost;
  result["suppressed"] = counters.suppressed;
  return result;
}

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
  std::vector<std::shared_ptr<Sa>> decrypting;
  for (const SaHandle* handle : inbound) decrypting.push_back(handle->sa);
  std::map<std::size_t, Senders> encrypting;
  for (const auto& [queue, handles] : outbound) {
    for (const SaHandle* handle : all_of(handles)) encrypting[queue].push_back(handle->sa);
  }
  const Tags tags = tags_of(given);
  const nb::gil_scoped_release release;  // widening the windows of many senders takes a while
  port.set_sas(std::move(decrypting), encrypting, tags);
}

nb::dict dict_of(const NamedCounters& counters) {
  nb::dict result;
  for (const auto& [key, value] : counters) result[nb::str(key.c_str())] = value;
  return result;
}

// A daemon lives for months. Each rekey takes large pieces of memory for a moment and leaves small ones for good (ledger.hpp). In one heap the
// small ones come to lie in the holes of the large ones, and it grows by 5 KB with each SA, so large pieces are mapped, always.
void keep_large_pieces_out_of_the_heap() { mallopt(M_MMAP_THRESHOLD, 32 * 1024); }

}  // namespace

NB_MODULE(_engine, m) {
  m.doc() = "The ESP engine (C++). Python adds and removes SAs and reads counters; it never touches a packet.";
  keep_large_pieces_out_of_the_heap();
  nb::exception<EngineError>(m, "EngineError", PyExc_RuntimeError);

  nb::class_<Event>(m, "Event")
      .def_prop_ro("kind", [](const Event& self) { return name(self.kind); })
      .def_ro("spi", &Event::spi)
      .def_prop_ro("moment", [](const Event& self) { return static_cast<double>(self.moment) / 1000; })
      .def_prop_ro("source", [](const Event& self) { return octets_of(self.source, self.family); })
      .def_prop_ro("destination", [](const Event& self) { return octets_of(self.destination, self.family); })
      .def_ro("protocol", &Event::protocol)
      .def_ro("sequence", &Event::sequence)
      .def_ro("own_stamp", &Event::own_stamp)
      .def_ro("tick", &Event::tick)
      .def_ro("time_window", &Event::time_window);
  nb::class_<EventsHandle>(m, "Events")
      .def(nb::init<>())
      .def("fileno", [](const EventsHandle& self) { return self.queue->descriptor(); })
      .def("alarm", [](const EventsHandle& self) { return self.queue->alarm(); })
      .def("drain", [](EventsHandle& self) { return self.queue->drain(); })
      .def("counters", &event_counters_of);

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

  bind_bpf(m);

  m.def("encapsulate", &encapsulate, "sa"_a, "packet"_a, "now"_a = nb::none());
  m.def("decapsulate", &decapsulate, "sas"_a, "packet"_a, "now"_a = nb::none());
  m.def("features", &features);
}
