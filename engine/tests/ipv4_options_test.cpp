#include "ipv4_options.hpp"

#include <algorithm>

#include "build.hpp"
#include "harness.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

struct Walked {
  std::vector<Octets> options;
  bool is_whole;
};

// The octets stand in memory of their own, so that a sanitizer sees who reads behind them.
Walked walk(Octets octets) {
  octets.shrink_to_fit();
  Ipv4Options options(octets);
  Walked result{};
  while (const auto option = options.next()) result.options.emplace_back(option->begin(), option->end());
  CHECK(!options.next());
  result.is_whole = options.is_whole();
  return result;
}

}  // namespace

TEST_CASE(ipv4_options_come_one_after_the_other) {
  const Octets router_alert = {0x94, 4, 0, 0}, shortest = {0x12, 2}, route = {0x83, 7, 4, 10, 0, 0, 1};
  const Walked walked = walk({1, 0x94, 4, 0, 0, 1, 1, 0x12, 2, 0x83, 7, 4, 10, 0, 0, 1});
  CHECK((walked.options == std::vector<Octets>{router_alert, shortest, route}));
  CHECK(walked.is_whole);
  CHECK(walk({}).options.empty() && walk({}).is_whole);
  CHECK(walk({1, 1, 1, 1}).options.empty() && walk({1, 1, 1, 1}).is_whole);
}

TEST_CASE(what_is_behind_the_end_of_the_list_is_no_ipv4_option) {
  for (const Octets& behind : {Octets{0x94, 4, 0, 0}, Octets{0x94}, Octets{0x94, 200}, Octets{0, 0}}) {
    Octets octets = {0x12, 2, 0};
    octets.insert(octets.end(), behind.begin(), behind.end());
    const Walked walked = walk(octets);
    CHECK(walked.options.size() == 1 && walked.options[0] == Octets({0x12, 2}));
    CHECK(walked.is_whole);
  }
}

TEST_CASE(an_ipv4_option_is_believed_only_if_it_fits) {
  for (std::size_t before = 0; before < 40; ++before) {
    for (std::size_t room = 1; room <= 40 - before; ++room) {
      for (std::size_t size = 0; size < 256; ++size) {
        Octets octets(before, Ipv4Options::no_operation);
        octets.resize(before + room);
        octets[before] = 0x94;
        if (room > 1) octets[before + 1] = static_cast<std::uint8_t>(size);
        const bool fits = room > 1 && size >= 2 && size <= room;
        const Walked walked = walk(octets);
        CHECK_EQUAL(walked.options.size(), std::size_t{fits});
        CHECK_EQUAL(walked.is_whole, fits);
        if (fits) CHECK_EQUAL(walked.options[0].size(), size);
      }
    }
  }
}

TEST_CASE(ipv4_options_of_chance_stay_within_their_header) {
  Random random(5);
  for (int turn = 0; turn < 50000; ++turn) {
    Octets octets = random.octets(random.below(41));
    for (std::uint8_t& octet : octets) octet %= 16;  // so that lengths often fit
    std::size_t total = 0;
    for (const Octets& option : walk(octets).options) {
      CHECK(option[0] != Ipv4Options::end_of_list && option[0] != Ipv4Options::no_operation);
      CHECK_EQUAL(option[1], option.size());
      total += option.size();
    }
    CHECK(total <= octets.size());
  }
}

TEST_CASE(an_ipv4_option_may_be_overwritten) {
  Octets octets = {0x94, 4, 0, 0, 7, 3, 4, 1, 0x12, 2};
  Ipv4Options options(octets);
  while (const auto option = options.next()) std::fill(option->begin(), option->end(), std::uint8_t{0xff});
  CHECK((octets == Octets{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0xff, 0xff}));
}
