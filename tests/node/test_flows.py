"""What access list entries have carried, over the SAs that came and went."""

from ipaddress import IPv4Address

from groupvpn.ipsec.acl import Action, AddressMatch, Entry
from groupvpn.ipsec.sa import InterfaceCounters, SaCounters
from groupvpn.node.flows import Flows, Served
from groupvpn.node.refusals import Refusals

MEMBER = "G", IPv4Address("10.0.0.1")
TCP, UDP = (Entry(Action.PERMIT, number, AddressMatch.any(), AddressMatch.any()) for number in (6, 17))
BOTH = frozenset((TCP, UDP))


def _counted(spi: int) -> SaCounters:
    """Each SA carries as many packets as its SPI says."""
    return SaCounters(spi, spi, 100 * spi, 2 * spi, 200 * spi)


def test_what_an_sa_has_carried_goes_to_its_entries_when_it_ends() -> None:
    flows = Flows()
    flows.follow({MEMBER: Served(BOTH, {1: (TCP, TCP), 2: (UDP,)})}, _counted)
    assert not flows.ended(MEMBER)
    flows.follow({MEMBER: Served(BOTH, {2: (UDP,), 3: (TCP,)})}, _counted)
    flows.follow({MEMBER: Served(BOTH, {2: (UDP,)})}, _counted)
    assert flows.ended(MEMBER) == {TCP: SaCounters(0, 4, 400, 8, 800)}


def test_entries_that_are_gone_are_forgotten_and_so_are_members() -> None:
    flows = Flows()
    flows.follow({MEMBER: Served(BOTH, {1: (TCP, UDP)})}, _counted)
    flows.follow({MEMBER: Served(frozenset((TCP,)), {})}, _counted)
    assert flows.ended(MEMBER).keys() == {TCP}
    flows.follow({}, _counted)
    assert not flows.ended(MEMBER)


def test_an_operator_begins_at_zero() -> None:
    flows = Flows()
    for sas in ({1: (TCP,)}, {2: (TCP,)}):
        flows.follow({MEMBER: Served(BOTH, sas)}, _counted)
    flows.clear("another group")
    assert flows.ended(MEMBER)
    flows.clear("G")
    flows.follow({MEMBER: Served(BOTH, {})}, _counted)
    assert not flows.ended(MEMBER), "nor does the SA count that ends by that"


def test_drops_are_shown_from_when_they_were_cleared() -> None:
    refusals = Refusals()
    eth0, eth1 = InterfaceCounters("eth0", drops={"inbound_replayed": 5}), InterfaceCounters("eth1", drops={"inbound_clear": 1})
    assert refusals.since(None) is None
    refusals.clear([eth0])
    now = refusals.since(InterfaceCounters("eth0", drops={"inbound_replayed": 7, "inbound_padding": 1}))
    assert now is not None
    assert now.drops == {"inbound_replayed": 2, "inbound_padding": 1}
    assert refusals.since(eth1) == eth1


def test_drops_of_an_interface_that_began_anew_are_shown_from_then() -> None:
    refusals = Refusals()
    refusals.clear([InterfaceCounters("eth0", drops={"inbound_replayed": 100, "inbound_clear": 1})])
    anew = InterfaceCounters("eth0", drops={"inbound_replayed": 7, "inbound_clear": 2})
    assert refusals.since(anew) == anew
    later = InterfaceCounters("eth0", drops={"inbound_replayed": 101, "inbound_clear": 2})
    assert refusals.since(later) == later
