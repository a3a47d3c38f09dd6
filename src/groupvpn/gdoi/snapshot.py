"""What a key server that is started again must know of a group, as a value.

`served_group` gives it and goes on from it, `persistence` writes and reads it.
"""

from dataclasses import dataclass

from groupvpn.gdoi.announced import Announced
from groupvpn.gdoi.group_keys import RekeyKey, TrafficKey
from groupvpn.gdoi.members import MemberRecord
from groupvpn.gdoi.pseudotime import PseudoClock
from groupvpn.gdoi.rekeying import UnfinishedDelete
from groupvpn.gdoi.sender_ids import SenderIds
from groupvpn.gdoi.timers import BATCH_PERIOD, batches

INTERRUPTED = 120.0
"""Where a snapshot does not say whether a rekey was under way, one for a key made this short before a restart was. Batches take longer."""


@dataclass(frozen=True, slots=True)
class GroupSnapshot:
    """The state of one group at one moment, its keys included. Times are monotonic seconds, of the clock of whoever holds it.

    `sequence` is the number of the last rekey under `kek`; `rekeyed_at` is when members were last told of new keys, None before the first
    time. `announced` and `under_way` are None where a release that did not note them wrote it; so is `announced` where nobody has heard a
    rekey.
    """

    sender_ids: SenderIds
    clock: PseudoClock | None
    teks: tuple[TrafficKey, ...]
    kek: RekeyKey | None
    sequence: int
    members: tuple[MemberRecord, ...]
    rekeys_sent: int
    registrations: int
    announced: Announced | None
    rekeyed_at: float | None
    under_way: bool | None
    """Whether a rekey, other than a delete, may not have reached everybody."""
    deletes: tuple[UnfinishedDelete, ...]

    def was_under_way(self, now: float, *, unicast: bool) -> bool:
        """Whether a rekey may not have reached everybody. Where that was not noted, the age of the last keys and the last rekey tells."""
        if self.under_way is not None:
            return self.under_way
        interrupted = INTERRUPTED + (BATCH_PERIOD * batches(len(self.members)) if unicast else 0)
        latest = [key.created for key in self.teks if key.expires > now] + ([self.rekeyed_at] if self.rekeyed_at is not None else [])
        return any(now - moment <= interrupted for moment in latest)
