"""The KEK of one group: made by the configuration of today, replaced when nobody can sign for it, wiped when nothing goes under it.

When it is renewed in its time is `served_group`'s business; it lies in `GroupKeys.kek`, where what a message tells of it is made.
"""

from collections.abc import Iterable

from groupvpn.effects import Entropy
from groupvpn.gdoi.events import GroupEffect
from groupvpn.gdoi.group_keys import NO_ADDRESS, GroupKeys, RekeyKey
from groupvpn.gdoi.members import MemberTable
from groupvpn.gdoi.messages import report
from groupvpn.gdoi.policy import KeyServerGroup
from groupvpn.gdoi.rekey_transport import is_complete, rekey_addresses
from groupvpn.gdoi.rekeying import Content
from groupvpn.gdoi.rounds import Rounds
from groupvpn.gdoi.signers import SignerFault, SignerLookup, signer_of


class KekLife:
    """Makes and ends the KEK in `keys`. Times are monotonic seconds."""

    def __init__(self, keys: GroupKeys, members: MemberTable, rounds: Rounds, signers: SignerLookup, entropy: Entropy) -> None:
        self.has_changed = False
        """Whether a snapshot would have another KEK than before; who writes one takes this back."""
        self._keys = keys
        self._members = members
        self._rounds = rounds
        self._signers = signers
        self._entropy = entropy

    @property
    def keks(self) -> tuple[RekeyKey, ...]:
        """The KEKs under which acknowledgements may come: the present one, and those of rekeys that replace or delete one."""
        present = (self._keys.kek,) if self._keys.kek is not None else ()
        return (*present, *self._rounds.keks)

    @property
    def can_tell(self) -> bool:
        """Whether there is a KEK under which a rekey can be signed."""
        return self._keys.kek is not None and not isinstance(signer_of(self._keys.kek, self._signers), SignerFault)

    def has_signer(self, group: KeyServerGroup) -> bool:
        """Whether the RSA key is there that the configuration names."""
        return group.rekey.key_label is not None and self._signers(group.rekey.key_label) is not None

    def make(self, group: KeyServerGroup, now: float) -> list[GroupEffect]:
        """A KEK by the configuration of today; without one (no key, no transport) the group has no rekeys."""
        rekey = group.rekey
        if rekey.key_label is None or not is_complete(group):
            self._keys.kek = None
            return [report("KS_NO_REKEY", group=group.name)] if rekey.key_label is not None else []
        signer = self._signers(rekey.key_label)
        if signer is None:
            self._keys.kek = None
            return [report("KS_NO_RSA_KEYS", group=group.name, label=rekey.key_label)]
        _, destination = rekey_addresses(rekey)
        self._keys.make_kek(rekey, signer.public.der, destination or NO_ADDRESS, now, self._entropy)
        self.has_changed = True
        return []

    def replace_unsigned(self, group: KeyServerGroup, now: float) -> list[GroupEffect]:
        """A KEK whose RSA key is another one by now can tell its members nothing: make the next, for those who register from now on."""
        kek = self._keys.kek
        if kek is None or signer_of(kek, self._signers) is not SignerFault.CHANGED:
            return []
        self.drop(now)
        return [report("KS_RSA_KEY_CHANGED", group=group.name, label=kek.key_label), *self.make(group, now)]

    def drop(self, now: float) -> None:
        """No rekeys from now on: members register again before their TEKs die."""
        if self._keys.kek is not None:
            self.keep_unanswering(self._keys.kek, self._keys.last_expiry(now))
            self._keys.kek.wipe()
            self.has_changed = True
        self._keys.kek = None
        self.wipe_unused(self._rounds.end((Content.TEK, Content.KEK)))

    def end(self) -> None:
        """Wipe all KEKs, and send nothing more."""
        if self._keys.kek is not None:
            self._keys.kek.wipe()
            self._keys.kek = None
        self.wipe_unused(self._rounds.end(frozenset(Content)))

    def wipe_unused(self, keks: Iterable[RekeyKey]) -> None:
        """Wipe those of `keks` that nothing goes under any more."""
        present = self._keys.kek.spi if self._keys.kek is not None else None
        for kek in keks:
            if kek.spi != present and not self._rounds.uses(kek.spi):
                kek.wipe()

    def keep_unanswering(self, kek: RekeyKey, until: float) -> None:
        """Where rekeys under `kek` are not acknowledged, assume that they have arrived: members hold TEKs until `until`."""
        if not (kek.unicast and kek.acknowledge):
            for member in self._members:
                member.note_keys(until)
