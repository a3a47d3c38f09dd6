"""The key server (GCKS): admits members to its groups, and hands what comes from the network to the group that it is about.

Registrations arrive as `PhaseTwo` events of the IKE endpoint, acknowledgements of rekeys as datagrams of their own. What a group does with
its keys is `served_group`'s business.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from groupvpn.effects import Endpoint, Entropy
from groupvpn.gdoi.acknowledgement import parse_acknowledgement
from groupvpn.gdoi.events import StateChanged
from groupvpn.gdoi.group_keys import NO_ADDRESS, RekeyKey
from groupvpn.gdoi.keyserver_status import status_of
from groupvpn.gdoi.members import MAXIMUM_MEMBERS, Registration
from groupvpn.gdoi.messages import report
from groupvpn.gdoi.persistence import SnapshotError, SnapshotWriter, groups_of, read_group
from groupvpn.gdoi.policy import GroupIdentity, KeyServerGroup
from groupvpn.gdoi.pull import NotifyPeer
from groupvpn.gdoi.refusal import Discard, Dropped, GdoiError, Reason, Refusal
from groupvpn.gdoi.rekey import push_spi
from groupvpn.gdoi.sender_ids import SenderIdsExhaustedError, SenderIdShareError
from groupvpn.gdoi.served_group import ServedGroup
from groupvpn.gdoi.server_pull import Admission, Admitted, MemberRefused, Offered, ServerPull, ServerPullEffect
from groupvpn.gdoi.signers import SignerLookup
from groupvpn.gdoi.status import KeyServerGroupStatus
from groupvpn.ike.endpoint import IkeEndpoint
from groupvpn.ike.events import Deleted, IkeEffect, IkeEvent, NotifyReceived, PhaseTwo
from groupvpn.ike.restraint import Restraint
from groupvpn.ike.sa import IkeSa
from groupvpn.reports import Report
from groupvpn.wire.iana import ExchangeType

KeyServerEffect = IkeEffect | StateChanged
"""What a `KeyServer` says."""
MAXIMUM_PULLS = 4096
"""ISAKMP SAs for which registrations are remembered; the one that rested longest makes room."""


@dataclass(slots=True)
class _Registrar:
    """Registrations under one ISAKMP SA; `registrations` has the last one of its member in each group."""

    pull: ServerPull
    has_reported_hash: bool = False
    registrations: dict[str, Registration] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of a snapshot. `unusable` says in words what could not be used, group by group; those groups begin anew."""

    effects: list[KeyServerEffect]
    unusable: tuple[str, ...]


class KeyServer:
    """All groups that one node serves. Single-threaded and without I/O: see `groupvpn.effects` for how it is driven.

    `signers` finds the RSA key of a label, each time it is needed, so that keys may come and go. `counters` counts dropped datagrams.
    """

    def __init__(
        self,
        groups: Iterable[KeyServerGroup],
        ike: IkeEndpoint,
        signers: SignerLookup,
        entropy: Entropy,
        *,
        maximum_members: int = MAXIMUM_MEMBERS,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._ike = ike
        self._signers = signers
        self._entropy = entropy
        self._maximum_members = maximum_members
        self._writer = SnapshotWriter()
        self._restraint = Restraint()
        self._groups = {group.name: self._serve(group) for group in groups}
        self._registrars: OrderedDict[bytes, _Registrar] = OrderedDict()

    @property
    def groups(self) -> tuple[ServedGroup, ...]:
        """The groups in the order of configuration."""
        return tuple(self._groups.values())

    def start(self, now: float) -> list[KeyServerEffect]:
        """Make the first keys of every group that `restore` brought none for."""
        return self._marked([effect for group in self.groups for effect in group.start(now)])

    def stop(self, now: float) -> list[KeyServerEffect]:
        """Forget everything, keys first; nobody is told, so that members live on with what they have."""
        effects: list[KeyServerEffect] = [effect for group in self.groups for effect in group.stop()]
        self._groups.clear()
        self._registrars.clear()
        return effects

    def handle(self, event: IkeEvent, now: float) -> list[KeyServerEffect]:
        """Act on an event of the IKE endpoint; events that do not concern a key server have no effect."""
        if isinstance(event, PhaseTwo):
            if event.header.exchange != ExchangeType.GROUPKEY_PULL:
                return self._drop(Discard.NOT_PULL)
            overdue = self._overdue(now)
            registrar = self._registrar(event.sa)
            return self._marked(overdue + self._translate(registrar, registrar.pull.receive(event.datagram, now), now))
        if isinstance(event, NotifyReceived):
            known = self._registrars.get(event.sa.cookies)
            return self._marked(self._translate(known, known.pull.notified(event.notify_type, event.data), now)) if known else []
        if isinstance(event, Deleted):
            self._registrars.pop(event.sa.cookies, None)
        return []

    def receive(self, datagram: bytes, source: Endpoint, now: float) -> list[KeyServerEffect]:
        """Handle an acknowledgement of a rekey (RFC 8263), without the non-ESP marker. Anything else is counted and dropped."""
        spi = push_spi(datagram)
        for group in self.groups:
            for kek in group.keks:
                if kek.spi == spi:
                    return self._acknowledged(group, kek, datagram, source, now)
        return self._drop(Discard.NO_SUCH_KEK)

    def tick(self, now: float) -> list[KeyServerEffect]:
        """Do all that is due at `now`."""
        for registrar in self._registrars.values():
            registrar.pull.expire(now)
        return self._marked([effect for group in self.groups for effect in group.tick(now)])

    def next_timer(self) -> float | None:
        """When `tick` wants to be called next; None when nothing is waiting."""
        times = [group.next_timer() for group in self.groups]
        return min((time for time in times if time is not None), default=None)

    def update(self, groups: Iterable[KeyServerGroup], now: float) -> list[KeyServerEffect]:
        """Serve `groups` from now on. Call it once, when configuration mode is left: each group sends one rekey for all its changes.

        What the look-up of an RSA key raises is raised before any group has changed: the next attempt finds all that there is to tell.
        """
        wanted = {group.name: group for group in groups}
        for group in wanted.values():
            if group.rekey.key_label is not None:
                self._signers(group.rekey.key_label)
        removed = [name for name in self._groups if name not in wanted]
        effects: list[KeyServerEffect] = [StateChanged(name) for name in removed]
        for name in removed:
            effects += self._groups.pop(name).stop()
        for name, group in wanted.items():
            if name in self._groups:
                effects += self._groups[name].update(group, now)
            else:
                self._groups[name] = self._serve(group)
                effects += self._groups[name].start(now)
        self._groups = {name: self._groups[name] for name in wanted}
        return self._marked(effects)

    def clear(self, name: str | None, now: float) -> list[KeyServerEffect]:
        """`clear crypto gdoi [group NAME]`; None means every group, an unknown name none."""
        chosen = [group for group in self.groups if name in (None, group.name)]
        return self._marked([effect for group in chosen for effect in group.clear(now)])

    def rekey(self, name: str | None, activation_delay: int, now: float) -> list[KeyServerEffect]:
        """`crypto gdoi ks rekey`: see `ServedGroup.rekey_now`; None means every group, an unknown name none."""
        chosen = [group for group in self.groups if name in (None, group.name)]
        return self._marked([effect for group in chosen for effect in group.rekey_now(activation_delay, now)])

    def snapshot_text(self, now: float) -> str:
        """Everything that a restart must not lose, as JSON. It holds all keys of all groups: keep it as secret as they are.

        It takes little time with thousands of members, for one is written for each registration. Times in it are relative to `now`.
        """
        return self._writer.text({group.name: group.snapshot() for group in self.groups}, now)

    def restore(self, state: object, now: float, elapsed: float, *, renew: bool = False, ahead: float = 0.0) -> Restored:
        """Go on from a snapshot that was taken `elapsed` seconds ago; call it before `start`. Raises `ValueError` for what is no snapshot.

        Keys that died meanwhile are left out, groups that are no longer configured are passed over. A group whose part is bad
        begins anew; the others go on. `renew` says that `elapsed` is a guess: all keys are made anew.
        Pseudotimes go on by `ahead` seconds more than that.
        """
        effects: list[KeyServerEffect] = []
        unusable: list[str] = []
        groups = groups_of(state)
        for group in self.groups:
            if group.name in groups:
                try:
                    snapshot = read_group(group.name, groups[group.name], now, elapsed)
                except SnapshotError as error:
                    unusable.append(str(error))
                else:
                    effects += group.resume(snapshot, now, renew=renew, ahead=ahead)
        return Restored(self._marked(effects), tuple(unusable))

    def status(self, now: float) -> tuple[KeyServerGroupStatus, ...]:
        """What `show crypto gdoi ks …` prints."""
        return tuple(status_of(group, now) for group in self.groups)

    def policy_for(self, identity: GroupIdentity, sa: IkeSa, peer: Endpoint, now: float) -> Offered | Refusal:
        """`Authority`: what the member behind `sa` is offered, or why it is not.

        The address list judges the address that phase 1 began from, which the pre-shared key vouches for, and that of `peer`, where packets
        come from now: whoever claims to sit behind a NAT may change that at will. A name in the IKE identity excuses nobody from the list.
        """
        group = self._group_with(identity)
        if group is None:
            return Refusal(Reason.BAD_GROUP_ID, f"no group with identity {identity}")
        if not group.settings.answers_at(sa.local.address):
            return Refusal(Reason.UNREGISTERED_INTERFACE, f"{sa.local.address} is not of a registration interface")
        stranger = _unauthorized(group, sa, peer)
        if stranger is not None:
            return _not_listed(stranger)
        if not group.has_room_for(peer, sa.first_peer.address, now, self._registration_before(sa, group)):
            return Refusal(Reason.GROUP_FULL)
        try:
            return Offered(group.download_for(peer, sa.local, now), group.epoch)
        except GdoiError as error:
            return Refusal(error.reason, error.detail)

    def admit(self, identity: GroupIdentity, sa: IkeSa, epoch: object, sender_ids: int, now: float) -> Admission:
        """`Authority`: the member is live; lend it Sender-IDs, unless what it was offered has been replaced meanwhile, or the list has."""
        group = self._group_with(identity)
        if group is None or group.epoch is not epoch:
            return Admission(Refusal(Reason.TRY_LATER, "the keys of the group were replaced during the registration"))
        stranger = _unauthorized(group, sa, sa.peer)
        if stranger is not None:
            return Admission(_not_listed(stranger))
        if not group.has_room_for(sa.peer, sa.first_peer.address, now, self._registration_before(sa, group)):
            return Admission(Refusal(Reason.GROUP_FULL))
        if not sender_ids:
            return Admission(())
        try:
            return Admission(group.lend_sender_ids(sender_ids, sa.first_peer.address, now))
        except SenderIdShareError as error:
            return Admission(Refusal(Reason.SENDER_ID_SHARE, str(error)))
        except SenderIdsExhaustedError as error:
            return Admission(Refusal(Reason.TRY_LATER, str(error)), group.sender_ids_are_used_up(now))

    def _overdue(self, now: float) -> list[KeyServerEffect]:
        """What should have been done before `now`. After a sleep of the machine a registration may come before the timer."""
        late = [group for group in self.groups if (moment := group.next_timer()) is not None and moment <= now]
        return [effect for group in late for effect in group.tick(now)]

    def _serve(self, group: KeyServerGroup) -> ServedGroup:
        return ServedGroup(group, self._signers, self._entropy, self._maximum_members, self._spis)

    def _spis(self) -> frozenset[int]:
        """Those of all groups."""
        return frozenset(key.spi for group in self.groups for key in group.keys.teks)

    def _group_with(self, identity: GroupIdentity) -> ServedGroup | None:
        return next((group for group in self.groups if group.settings.identity == identity), None)

    def _registration_before(self, sa: IkeSa, group: ServedGroup) -> Registration | None:
        """The last registration in the group of the member behind `sa`, None if there was none."""
        registrar = self._registrars.get(sa.cookies)
        return registrar.registrations.get(group.name) if registrar is not None else None

    def _registrar(self, sa: IkeSa) -> _Registrar:
        registrar = self._registrars.get(sa.cookies)
        if registrar is None:
            registrar = self._registrars[sa.cookies] = _Registrar(ServerPull(sa, self._entropy, self))
            if len(self._registrars) > MAXIMUM_PULLS:
                self._registrars.popitem(last=False)
        else:
            self._registrars.move_to_end(sa.cookies)
        return registrar

    def _translate(self, registrar: _Registrar, effects: Sequence[ServerPullEffect], now: float) -> list[KeyServerEffect]:
        """Effects of a registration, in terms of the node: notifies sent, refusals reported, members taken in."""
        sa = registrar.pull.sa
        said: list[KeyServerEffect] = []
        for effect in effects:
            if isinstance(effect, NotifyPeer):
                said += self._ike.notify(sa, effect.notify_type, effect.data, effect.to)
            elif isinstance(effect, MemberRefused):
                said += self._refused(effect, sa, now)
            elif isinstance(effect, Admitted):
                group = self._group_with(effect.identity)
                if group is not None:
                    before = registrar.registrations.get(group.name)
                    said += group.register(sa.peer, sa.local, effect.download, now, sa.first_peer.address, before)
                    registrar.registrations[group.name] = Registration(sa.peer, now)
            elif isinstance(effect, Dropped):
                self.counters[effect.reason.words] += 1
                if effect.reason is Reason.HASH_MISMATCH and not registrar.has_reported_hash:
                    registrar.has_reported_hash = True
                    said.append(report("KS_HASH_FAIL", peer=sa.peer.address))
            else:
                said.append(effect)
        return said

    def _refused(self, refused: MemberRefused, sa: IkeSa, now: float) -> list[KeyServerEffect]:
        """The syslog line of a refusal, but for those that come too soon after another: message 1 may be a replay, or one of very many."""
        group = self._group_with(refused.identity) if refused.identity is not None else None
        name = group.name if group else str(refused.identity)
        if group is not None:
            group.refusals += 1
        peer, refusal = refused.peer.address, refused.refusal
        if refusal.reason is Reason.UNREGISTERED_INTERFACE:
            return self._seldom(report("UNREGISTERED_INTERFACE", group=name, peer=peer, address=sa.local.address), peer, now)
        if refusal.reason is Reason.UNAUTHORIZED:
            stranger = (_unauthorized(group, sa, refused.peer) if group else None) or peer
            moved: list[KeyServerEffect] = []
            if stranger != peer:  # its address of now may do: with a phase 1 from there
                sa.follow(refused.peer)
                moved = list(self._ike.delete(sa))
            return [*self._seldom(report("UNAUTHORIZED_IPADDR", group=name, peer=stranger), stranger, now), *moved]
        if refusal.reason in (Reason.POLICY_REJECTED, Reason.UNSUPPORTED_TEK_PROTOCOL):
            return self._seldom(report("KS_GM_REJECTS_SA_PAYLOAD", group=name, peer=peer, reason=str(refusal)), peer, now)
        if refusal.reason is Reason.BAD_GROUP_ID:
            return self._seldom(report("KS_BAD_ID", peer=peer, reason=str(refusal)), peer, now)
        self.counters[refusal.reason.words] += 1
        if refusal.reason is Reason.GROUP_FULL and group is not None:
            return self._seldom(report("KS_MEMBERS_FULL", group=name, count=len(group.members), peer=peer), NO_ADDRESS, now)
        if refusal.reason is Reason.SENDER_ID_SHARE:
            proven = sa.first_peer.address
            return self._seldom(report("KS_SIDS_REFUSED", group=name, peer=proven), proven, now)
        if refusal.reason is Reason.TRY_LATER:
            return self._seldom(report("KS_REGISTER_FAIL", group=name, peer=peer, reason=refusal.detail), peer, now)
        return []

    def _seldom(self, entry: Report, address: IPv4Address, now: float) -> list[KeyServerEffect]:
        """A line that others can cause at will: once in a while for each address, and each group that we have."""
        group = entry.fields.get("group")
        subject = f"{entry.mnemonic} {group}" if group in self._groups else entry.mnemonic
        return [entry] if self._restraint.allows(subject, address, now) else []

    def _acknowledged(self, group: ServedGroup, kek: RekeyKey, datagram: bytes, source: Endpoint, now: float) -> list[KeyServerEffect]:
        """Verify an acknowledgement, if the policy asks for any (RFC 8263 5); its ID has to be the address that it came from, unless a NAT
        changed that."""
        if not group.asks_for_acknowledgement(kek):
            return self._drop(Discard.UNASKED)
        try:
            acknowledgement = parse_acknowledgement(datagram, kek.as_kek(now, NO_ADDRESS))
        except GdoiError as error:
            return self._drop(error.reason)
        if acknowledgement.member != source.address and not group.is_behind_nat(source):
            return self._drop(Discard.OTHER_NAME)
        effects = group.acknowledge(source, kek.spi, acknowledgement.sequence, now)
        if effects is None:
            self.counters[Discard.UNSOLICITED.words] += 1
            entry = report("KS_UNSOL_ACK", group=group.name, peer=source.address, sequence=acknowledgement.sequence)
            return self._marked(self._seldom(entry, source.address, now))
        return self._marked(effects)

    def _drop(self, why: Discard | Reason) -> list[KeyServerEffect]:
        self.counters[why.words] += 1
        return []

    def _marked(self, effects: Sequence[KeyServerEffect]) -> list[KeyServerEffect]:
        """`effects` behind a `StateChanged` for every group whose snapshot they outdate."""
        changed: list[KeyServerEffect] = [StateChanged(group.name) for group in self.groups if group.take_change()]
        return [*changed, *effects]


def _unauthorized(group: ServedGroup, sa: IkeSa, peer: Endpoint) -> IPv4Address | None:
    """The first address of the member behind `sa` that may not join `group`: the one it had at first, or that of `peer`, where it is."""
    return next((address for address in (sa.first_peer.address, peer.address) if not group.settings.is_authorized(address)), None)


def _not_listed(stranger: IPv4Address) -> Refusal:
    return Refusal(Reason.UNAUTHORIZED, f"{stranger} is not in the authorization list")
