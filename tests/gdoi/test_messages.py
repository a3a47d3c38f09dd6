"""The syslog lines: exact where the manuals show them, and each one really sent by the code."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
import test_bounds
import test_insiders
import test_keyserver_changes
import test_keyserver_rounds
import test_member
import test_member_rekeys
import test_member_servers
import test_pseudotime
import test_sleep
from gdoi_world import LABEL, MULTI, TRIPLE_DES, UNICAST, World, address_of, change, entry, rsa_key, served, spis, tek_policy

from groupvpn.gdoi.messages import MESSAGES, report
from groupvpn.ipsec.acl import AccessList, Action, AddressMatch, Entry
from groupvpn.ipsec.sa import Direction
from groupvpn.reports import Report, Severity, UnknownMessageError


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        (
            report("KS_SEND_UNICAST_REKEY", group="GET", source=IPv4Address("10.0.8.1"), sequence=1),
            "%GDOI-5-KS_SEND_UNICAST_REKEY: Sending Unicast Rekey for group GET from address 10.0.8.1 with seq # 1",
        ),
        (
            report("UNAUTHORIZED_IPADDR", group="getvpn", peer=IPv4Address("10.1.1.9")),
            "%GDOI-1-UNAUTHORIZED_IPADDR: Group getvpn received registration from unauthorized ip address: 10.1.1.9",
        ),
        (
            report("GM_REGS_COMPL", group="diffint", address=IPv4Address("10.0.3.1")),
            "%GDOI-5-GM_REGS_COMPL: Registration complete for group diffint using address 10.0.3.1",
        ),
        (
            report("GM_REGSTER", group="diffint", address=IPv4Address("10.0.3.1")),
            "%CRYPTO-5-GM_REGSTER: Start registration for group diffint using address 10.0.3.1",
        ),
    ],
)
def test_lines_that_operators_tools_know(entry: Report, line: str) -> None:
    assert str(entry) == line


def test_severities_that_the_manuals_print() -> None:
    printed = {"UNAUTHORIZED_IPADDR": 1, "GDOI_REKEY_SEQ_FAILURE": 3, "KS_SEND_UNICAST_REKEY": 5, "GM_REGS_COMPL": 5, "GM_REGSTER": 5}
    assert {mnemonic: int(MESSAGES[mnemonic].severity) for mnemonic in printed} == printed
    assert report("KS_GROUP_ADD", group="g").message.severity is Severity.NOTICE


@pytest.mark.parametrize("fields", [{}, {"group": "g", "other": 1}])
def test_a_report_needs_exactly_its_fields(fields: dict[str, object]) -> None:
    with pytest.raises(UnknownMessageError, match="KS_GROUP_ADD needs"):
        report("KS_GROUP_ADD", **fields)


def test_a_mnemonic_that_is_not_in_the_table_is_refused() -> None:
    with pytest.raises(UnknownMessageError, match="no message GM_REKEY_NOT_RECD"):
        report("GM_REKEY_NOT_RECD")


def a_life(world: World) -> None:
    """Everything that an operator does to a group, once."""
    world.run(5)
    server, member = world.server, world.members[0]
    many = AccessList("long", tuple(entry(Action.PERMIT, f"10.{number}.0.0/16", "10.0.0.0/8") for number in range(101)))
    for group in (served(rekey=MULTI), served(receive_only=True), served(), served(tek_policy(acl=many))):
        change(world, group)
        world.run(10)
    world.do(server, server.rekey(None, 0, world.now))
    world.run(1)
    world.do(member, member.set_direction(Direction.BOTH, world.now))
    world.do(member, member.clear(world.now))
    world.do(member, member.hear_scarcity(spis(member), world.now))
    world.run(5)
    world.do(member, member.hear_scarcity(spis(member), world.now))
    world.do(server, server.clear(None, world.now))
    world.run(10)
    world.do(member, member.stop(world.now))
    world.do(server, server.update((), world.now))


def strangers(world: World) -> None:
    """Members with a configuration that does not fit the group's, or that sit at the wrong place."""
    local = AccessList("local", (entry(Action.PERMIT, "10.0.1.0/24", "10.0.3.0/24"),))
    world.add_member(11, identity=9)
    world.add_member(12, servers=())
    world.add_member(13, accepted_transforms=(TRIPLE_DES,))
    world.add_member(14, local_acl=local)
    world.run(5)
    only_first = AccessList("50", (Entry(Action.PERMIT, 0, AddressMatch.host(address_of(1)), AddressMatch.any()),))
    world.do(world.server, world.server.update((served(authorization=only_first),), world.now))
    world.add_member(15)
    world.run(5)
    world.do(world.server, world.server.update((served(registration_addresses=()),), world.now))
    world.add_member(16)
    world.run(5)


def silence(world: World) -> None:
    """A member that no rekey reaches is ejected, and comes back when its TEK dies."""
    world.run(5)
    world.cut(address_of(1))
    for _ in range(4):
        world.do(world.server, world.server.rekey(None, 0, world.now))
        world.run(60)
    world.heal()
    world.run(3600)


def test_every_message_of_the_table_is_really_sent() -> None:
    """Where a message takes a story of its own to be sent, the test that tells it is played here once more."""
    World.ever.clear()
    for scene in (a_life, strangers, silence):
        scene(World(members=1))
    World(served(rekey=replace(UNICAST, key_label="MISSING")), members=0)
    for story in (
        test_bounds.test_a_member_says_that_a_message_of_the_key_server_has_a_bad_hash,
        test_bounds.test_a_key_server_says_once_for_an_sa_that_a_message_of_its_member_has_a_bad_hash,
        test_insiders.test_a_full_group_says_so_now_and_then,
        test_insiders.test_one_member_does_not_use_up_the_sender_ids_of_all,
        test_insiders.test_members_that_come_every_lifetime_are_never_refused,
        test_insiders.test_one_recorded_acknowledgement_does_not_fill_the_log,
        test_keyserver_rounds.test_a_rekey_by_command_without_rekeys_says_who_gets_the_keys_when,
        test_member.test_a_policy_that_no_datagram_holds_is_refused_and_said,
        test_member_rekeys.test_an_old_sequence_number_is_refused_and_said,
        test_member_rekeys.test_a_rekey_with_another_signature_changes_nothing,
        test_member_servers.test_a_member_that_no_rekey_can_reach_any_more_registers_long_before_t0,
        test_pseudotime.test_a_larger_pseudotime_is_taken_and_logged,
        test_pseudotime.test_a_rekey_from_the_past_is_dropped_whole,
        test_sleep.test_seven_minutes_at_the_wrong_moment_of_an_hour_are_enough_to_need_it,
    ):
        story()
    for patched in (
        test_keyserver_rounds.test_a_rekey_that_fits_no_datagram_is_said_and_nobody_is_ejected,
        test_member.test_a_tek_protocol_that_we_do_not_have_is_rejected_by_both_in_words,
        test_sleep.test_a_registration_without_a_tek_takes_no_list_away,
    ):
        with pytest.MonkeyPatch.context() as patch:
            patched(patch)
    with pytest.MonkeyPatch.context() as patch:
        pairs = {LABEL: rsa_key()}
        patch.setattr("gdoi_world.signer", pairs.get)
        test_keyserver_changes.test_a_key_pair_that_is_replaced_under_its_label_gives_those_who_come_a_new_kek(pairs)
    assert sorted(set(MESSAGES) - World.ever) == []
