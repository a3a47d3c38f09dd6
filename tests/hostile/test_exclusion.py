"""A member is excluded as the operator's guide says: its pre-shared key goes, then every key of the group.

What it had made with its key before is of no use to it.
"""

import pytest
from hostile_nodes import GROUP_MEMBER, KEY_SERVER, Wire

MODES = pytest.mark.parametrize("aggressive", [False, True], ids=["main", "aggressive"])
KEY = "crypto isakmp key a-shared-key address 0.0.0.0 0.0.0.0"
CHANGES = pytest.mark.parametrize(
    "changed",
    ["", "crypto isakmp key another-key address 0.0.0.0 0.0.0.0", f"{KEY}\ncrypto isakmp key its-own-key address 10.0.1.1"],
    ids=["removed", "replaced", "another for this address"],
)


@MODES
@CHANGES
def test_a_member_without_its_key_gets_no_keys_of_the_group(changed: str, aggressive: bool) -> None:
    wire = Wire(aggressive=aggressive).start().settle()
    assert wire.is_registered
    wire.ks.reload(KEY_SERVER.replace(KEY, changed))
    assert wire.ks.router.ike.sas() == ()
    with wire.ks.world():
        wire.ks.router.clear_gdoi()
    wire.advance(120)
    assert not wire.agrees
    assert not wire.ks.key_server.groups[0].members
    assert not wire.ks.bugs | wire.gm.bugs


@MODES
def test_a_member_that_does_not_hear_of_the_end_of_its_sa_gets_nothing_under_it(aggressive: bool) -> None:
    """It keeps its SA, as one that means harm would, and asks for a registration under it."""
    wire = Wire(aggressive=aggressive).start().settle()
    wire.ks.reload(KEY_SERVER.replace(KEY, ""))
    with wire.ks.world():
        wire.ks.router.clear_gdoi()
    wire.collect()
    wire.in_flight.clear()
    with wire.gm.world():
        wire.gm.router.clear_sa()
    drops = wire.ks.drops
    wire.settle()
    assert wire.ks.drops == drops + 1
    assert not wire.ks.key_server.groups[0].members
    assert not wire.agrees


@MODES
def test_a_reload_that_changes_no_key_keeps_the_sas(aggressive: bool) -> None:
    wire = Wire(aggressive=aggressive).start().settle()
    before = wire.ks.router.ike.sas(), wire.gm.router.ike.sas()
    text = KEY_SERVER.replace(KEY, f"{KEY}\ncrypto isakmp key another-key address 10.0.9.9")
    wire.ks.reload(text.replace("lifetime 86400\ncrypto", "lifetime 43200\ncrypto"))
    wire.gm.reload(GROUP_MEMBER if not aggressive else GROUP_MEMBER.replace("lifetime 300", "lifetime 600"))
    wire.settle()
    assert (wire.ks.router.ike.sas(), wire.gm.router.ike.sas()) == before
    assert wire.is_registered


def test_a_member_whose_key_changed_begins_phase_1_anew() -> None:
    wire = Wire(group_member=GROUP_MEMBER.replace("a-shared-key", "not-this-one")).start()
    wire.collect()
    wire.deliver(wire.in_flight.pop(0))
    wire.in_flight.clear()
    wire.gm.reload(GROUP_MEMBER)
    wire.settle()
    assert wire.is_registered
    (before,) = wire.gm.router.ike.sas()
    wire.ks.reload(KEY_SERVER.replace("a-shared-key", "the-next-key"))
    wire.gm.reload(GROUP_MEMBER.replace("a-shared-key", "the-next-key"))
    wire.settle()
    assert wire.gm.router.ike.sas() == wire.ks.router.ike.sas() == ()
    assert wire.is_registered, "what it has lives on"
    with wire.gm.world():
        wire.gm.router.clear_sa()
    wire.settle()
    (after,) = wire.gm.router.ike.sas()
    assert after.cookies != before.cookies
    assert wire.is_registered
