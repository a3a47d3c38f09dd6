"""What the GDOI cores say beyond the effects that every core has."""

from dataclasses import dataclass

from groupvpn.effects import Send
from groupvpn.reports import Report


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """A member of group `group` has other `rules` or `sas` than before: bring the data plane in line."""

    group: str


@dataclass(frozen=True, slots=True)
class StateChanged:
    """What `KeyServer.snapshot_text` gives has changed for group `group`.

    It stands before the datagrams of the same list of effects: once the snapshot is durable, no crash can make the key server give a
    Sender-ID twice, repeat a sequence number or forget a key that members hold.
    """

    group: str


GroupEffect = Send | Report
"""What a group on its key server says."""
