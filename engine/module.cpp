// Python bindings of the ESP engine. What they promise stands in src/groupvpn/_engine.pyi.
#include <malloc.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bpf_module.hpp"
#include "error.hpp"
#include "esp.hpp"
#include "events.hpp"
#include "handles.hpp"
#include "port_module.hpp"
#include "sa_module.hpp"

namespace nb = nanobind;
using namespace nb::literals;
using namespace groupvpn;

namespace {

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

nb::bytes bytes_of(const Packet& packet) { return nb::bytes(packet.data, packet.length); }

nb::bytes encapsulate(const SaHandle& handle, const nb::bytes& octets, std::optional<std::int64_t> now) {
  Workspace workspace(octets);
  workspace.packet().sa = handle.sa.get();
  esp_of_tools().encapsulate({&workspace.packet(), 1}, checked_moment(now.value_or(boot_milliseconds()), "the moment"));
  if (workspace.packet().reason != Reason::delivered) throw EngineError("not encapsulated: " + std::string(name(workspace.packet().reason)));
  return bytes_of(workspace.packet());
}

std::pair<std::optional<nb::bytes>, std::string_view> decapsulate(const std::vector<const SaHandle*>& handles, const nb::bytes& octets,
                                                               std::optional<std::int64_t> now) {
  const SaSet set(sas_of(handles));
  Workspace workspace(octets);
  esp_of_tools().decapsulate(set, {&workspace.packet(), 1}, checked_moment(now.value_or(boot_milliseconds()), "the moment"));
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

  bind_sa(m);
  bind_port(m);
  bind_bpf(m);

  m.def("encapsulate", &encapsulate, "sa"_a, "packet"_a, "now"_a = nb::none());
  m.def("decapsulate", &decapsulate, "sas"_a, "packet"_a, "now"_a = nb::none());
  m.def("features", &features);
}
