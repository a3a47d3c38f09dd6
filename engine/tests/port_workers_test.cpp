// A port with several workers.
#include "port_rig.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>

using namespace groupvpn;
using namespace groupvpn::test;

TEST_CASE(workers_number_apart_and_keep_each_flow_in_order) {
  if (!has_own_network()) return;
  Crew crew(3);
  const Keys keys(Cipher::aes_128_gcm, Integrity::none, 0x41);
  Senders senders;
  for (const std::uint32_t id : {1U, 2U, 3U}) {
    SaParameters parameters = keys.parameters();
    parameters.sender_id = id;
    parameters.replay_window = 64;
    senders.push_back(std::make_shared<Sa>(parameters));
  }
  crew.protect(senders);
  crew.port.start();
  const std::vector<Octets> sent = crew.send(50);
  CHECK_EQUAL(sent.size(), 50U * Crew::flows);
  std::map<std::uint32_t, std::uint32_t> last_of_sender, sender_of_flow;
  for (const Octets& frame : sent) {
    const std::uint32_t sender = senders.front()->sender_of(&frame[14 + 20 + 8]);
    CHECK_EQUAL(sequence_of(frame), ++last_of_sender[sender]);
    CHECK_EQUAL(sender_of_flow.try_emplace(flow_of(frame), sender).first->second, sender);
  }
  CHECK_EQUAL(last_of_sender.size(), 3U);  // 40 flows: that a worker gets none of them would be a wonder
  crew.port.stop();
  CHECK_EQUAL(sum(crew.port.counters(), "outbound_delivered"), sent.size());
  std::uint64_t encrypted = 0;
  for (const auto& sa : senders) encrypted += sa->counters().encrypted_packets;
  CHECK_EQUAL(encrypted, sent.size());
}

TEST_CASE(workers_that_share_an_sa_with_a_window_let_its_numbers_leave_in_order) {
  if (!has_own_network()) return;
  Crew crew(3);
  const Keys keys(Cipher::aes_128_cbc, Integrity::hmac_sha1_96, 0x42);
  SaParameters parameters = keys.parameters();
  parameters.replay_window = 64;
  crew.protect({std::make_shared<Sa>(parameters)});
  crew.port.start();
  const std::vector<Octets> sent = crew.send(100);
  CHECK_EQUAL(sent.size(), 100U * Crew::flows);
  std::uint32_t last = 0;
  for (const Octets& frame : sent) {
    CHECK_EQUAL(sequence_of(frame), last + 1);
    last = sequence_of(frame);
  }
}

TEST_CASE(a_queue_that_one_worker_has_given_up_is_taken_from_the_others) {
  if (!has_own_network()) return;
  Crew crew(3);
  for (std::uint32_t flow = 0; flow < Crew::flows; ++flow) {  // so that each worker looks at its queue
    crew.to_protect.send(frame_around(ipv4(Octets(60), {.source = 0x0a010000 + flow, .destination = 0x0a020000 + flow})));
  }
  const Descriptor queue(dup(crew.out[1].number())), no_queue(open("/", O_RDONLY | O_DIRECTORY));
  CHECK(dup2(no_queue.number(), crew.out[1].number()) >= 0);  // there is something to read, and reading fails
  crew.port.start();
  CHECK(wait_until([&crew] { return !crew.port.fault().empty(); }));
  const auto is_taken = [&crew] {
    try {
      crew.port.remove_outbound(crew.queue);
    } catch (const EngineError&) {
      return false;
    }
    return true;
  };
  CHECK(is_taken());
  CHECK(!is_taken());
}

TEST_CASE(workers_take_esp_in_by_each_way_once_and_flow_by_flow_in_order) {
  if (!has_own_network()) return;
  for (const ReceiveMethod method : {ReceiveMethod::tap, ReceiveMethod::ring, ReceiveMethod::bpf}) {
    if (method == ReceiveMethod::bpf && !has_bpf_ring()) continue;
    Crew crew(2, method);
    const EspTable table(crew.port);
    CHECK_EQUAL(crew.port.receivers(), method == ReceiveMethod::bpf ? 2U : 1U);
    const Keys keys(Cipher::aes_128_gcm, Integrity::none, static_cast<std::uint8_t>(0x43 + static_cast<int>(method)));
    Senders senders;
    for (const std::uint32_t id : {1U, 2U}) {
      SaParameters parameters = keys.parameters();
      parameters.sender_id = id;
      senders.push_back(std::make_shared<Sa>(parameters));
    }
    SaParameters near = keys.parameters();
    near.sender_id = 3;
    near.replay_window = 64;  // all packets of a sender have to come to one worker
    crew.port.set_sas({std::make_shared<Sa>(near)}, {{crew.queue, senders}});
    crew.port.start();
    const std::vector<Octets> sent = crew.send(60);
    for (const Octets& frame : sent) crew.core.send(frame);
    std::map<std::uint32_t, std::vector<std::uint8_t>> came;
    for (std::size_t count = 0; count < sent.size(); ++count) {
      const Octets frame = crew.kernel.receive();
      if (frame.empty()) break;
      came[flow_of(frame)].push_back(frame.back());
    }
    CHECK_EQUAL(came.size(), Crew::flows);
    for (const auto& [flow, rounds] : came) {
      CHECK_EQUAL(rounds.size(), 60U);
      CHECK(std::ranges::is_sorted(rounds));
    }
    crew.port.stop();
    CHECK_EQUAL(sum(crew.port.counters(), "inbound_delivered"), sent.size());
    CHECK_EQUAL(sum(crew.port.traffic(), "inbound_frames"), sent.size());
  }
}

TEST_CASE(workers_take_all_of_one_sender_in_by_one_of_them) {
  if (!has_bpf_ring()) return;  // nothing else has several workers take ESP in
  Crew crew(2, ReceiveMethod::bpf);
  CHECK_EQUAL(crew.port.receivers(), 2U);
  const EspTable table(crew.port);
  const Keys keys(Cipher::aes_128_cbc, Integrity::hmac_sha1_96, 0x4b);
  SaParameters parameters = keys.parameters();
  parameters.replay_window = 64;
  crew.protect({std::make_shared<Sa>(parameters)});
  crew.port.start();
  const std::vector<Octets> sent = crew.send(60);
  parameters.is_apart = true;  // or the windows know what was sent
  crew.port.set_sas({std::make_shared<Sa>(parameters)}, {});
  for (const Octets& frame : sent) crew.core.send(frame);
  CHECK(wait_until([&] { return sum(crew.port.counters(), "inbound_") >= sent.size(); }));
  crew.port.stop();
  CHECK_EQUAL(sum(crew.port.counters(), "inbound_delivered"), sent.size());
}

TEST_CASE(workers_that_share_an_sa_let_what_leaves_in_parts_leave_in_order_too) {
  if (!has_own_network()) return;
  Crew crew(3);
  const Keys keys(Cipher::aes_128_cbc, Integrity::hmac_sha1_96, 0x4e);
  SaParameters parameters = keys.parameters();
  parameters.replay_window = 64;
  crew.protect({std::make_shared<Sa>(parameters)});
  crew.port.set_fragments_after(true);
  constexpr std::uint32_t rounds = 50;
  for (std::uint32_t packet = 0; packet < rounds * Crew::flows; ++packet) {  // queued while nobody reads
    crew.to_protect.send(frame_around(ipv4(Octets(1480), {.source = 0x0a010000 + packet % Crew::flows, .destination = 0x0a020000 + packet % Crew::flows})));
  }
  crew.port.start();
  std::uint32_t arrived = 0, last = 0, late = 0;
  while (arrived < 2 * rounds * Crew::flows) {
    const Octets frame = crew.core.receive();
    if (frame.empty()) break;
    ++arrived;
    if ((load16(&frame[14 + 6]) & Ipv4::offset_mask) != 0) continue;
    late += sequence_of(frame) < last;
    last = sequence_of(frame);
  }
  crew.port.stop();
  CHECK_EQUAL(arrived, 2 * rounds * Crew::flows);
  CHECK_EQUAL(late, 0U);
}
