"""The rekeys of one group that are on their way: one `Round` under each KEK, the messages that it sends, and who answers.

What a rekey is about, and what becomes of members that answer to none, is `served_group`'s business. Nothing is wiped here: whoever ends a
round asks `uses` whether its KEK has done its service.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from groupvpn.crypto.rsa import RsaPrivateKey
from groupvpn.effects import GDOI_PORT, Endpoint, Send
from groupvpn.gdoi.events import GroupEffect
from groupvpn.gdoi.group_keys import NO_ADDRESS, GroupKeys, RekeyKey
from groupvpn.gdoi.members import Member, MemberTable
from groupvpn.gdoi.messages import report
from groupvpn.gdoi.policy import KeyServerGroup, Repetition
from groupvpn.gdoi.refusal import GdoiError
from groupvpn.gdoi.rekey import Deletion, build_push
from groupvpn.gdoi.rekey_transport import source_of
from groupvpn.gdoi.rekeying import Batch, Content, Round, RoundPlan, UnfinishedDelete
from groupvpn.gdoi.signers import SignerFault, SignerLookup, signer_of
from groupvpn.gdoi.timers import is_retransmission_suppressed
from groupvpn.ike.natt import wrap
from groupvpn.ipsec.transform import SecurityProtocol


@dataclass(frozen=True, slots=True)
class Progress:
    """What was sent."""

    effects: list[GroupEffect]
    must_be_saved: bool = False
    """Whether a number was used that no snapshot knows of. The batches after the first have its number: nothing new."""
    was_given_up: bool = False
    """Whether a rekey could not be sent, so that nobody hears what it was to tell."""


class Rounds:
    """All rounds of one group, in the order of their beginning. Times are monotonic seconds.

    `sent` counts rekeys, not transmissions; `last` is the rekey that began last, deletes left out.
    """

    def __init__(self, keys: GroupKeys, members: MemberTable, signers: SignerLookup) -> None:
        self.sent = 0
        self.last: Round | None = None
        self._keys = keys
        self._members = members
        self._signers = signers
        self._rounds: list[Round] = []

    @property
    def keks(self) -> tuple[RekeyKey, ...]:
        """The KEKs that something goes under, or under which answers may come."""
        return tuple(each.under for each in self._rounds)

    @property
    def deletes(self) -> tuple[UnfinishedDelete, ...]:
        """The deletes that are on their way, as far as a key server that is started again has to know them."""
        return tuple(
            UnfinishedDelete(each.under, each.last_sequence, each.deletes, tuple(member.record for member in each.pending))
            for each in self._rounds
            if each.content is Content.DELETE
        )

    @property
    def is_under_way(self) -> bool:
        """Whether a rekey, other than a delete, may not have reached everybody yet."""
        return any(each.content is not Content.DELETE for each in self._rounds)

    @property
    def next_transmission(self) -> float | None:
        """When a retransmission is due, for `Group Retransmit`."""
        times = [each.next_timer() for each in self._rounds if each.next_is_retransmission]
        return min((time for time in times if time is not None), default=None)

    def next_timer(self) -> float | None:
        """When `run` or `finish` has something to do next."""
        times = [each.next_timer() for each in self._rounds]
        return min((time for time in times if time is not None), default=None)

    def uses(self, spi: bytes) -> bool:
        """Whether a round goes under the KEK `spi`."""
        return any(each.under.spi == spi for each in self._rounds)

    def asks_for_acknowledgement(self, kek: RekeyKey) -> bool:
        """Whether members are to answer what comes under `kek`: its own policy may say so, or that of the KEK that comes under it."""
        present = self._keys.kek
        brings_present = any(each.content is Content.KEK and each.under.spi == kek.spi for each in self._rounds)
        return kek.acknowledge or (brings_present and present is not None and present.acknowledge)

    def was_sent_to(self, peer: Endpoint) -> bool:
        """Whether a round was for `peer`, answered or not."""
        return any(each.was_sent_to(peer) for each in self._rounds)

    def begin(self, plan: RoundPlan, members: Iterable[Member], repetition: Repetition, now: float) -> None:
        """Start a rekey. Older rounds under the same KEK are superseded: all they would say, this one says.

        Those whom they had not reached come first. Else no round would reach the end of a list that is too long for one to go through
        before the next is due.
        """
        under = plan.under
        superseded = [each for each in self._rounds if each.under.spi == under.spi]
        waiting = frozenset[Endpoint]().union(*(each.unsent for each in superseded))
        self._rounds = [each for each in self._rounds if each.under.spi != under.spi]
        knows_lifetime = self._is_present(under) and self._keys.lifetime_is_known
        former = next((each.former_source for each in superseded if each.former_source is not None), None)
        begun = Round(
            replace(plan, former_source=plan.former_source or former),
            sorted(members, key=lambda member: member.peer not in waiting) if waiting else members,
            repetition,
            now,
            tells_kek=not knows_lifetime or any(each.tells_kek for each in superseded),
        )
        self._rounds.append(begun)
        if plan.content is not Content.DELETE:
            self.last = begun

    def turn_into_deletes(self, protocols: frozenset[SecurityProtocol], repetition: Repetition, now: float) -> None:
        """Whoever a rekey has not reached yet is told to forget everything instead."""
        for each in [each for each in self._rounds if each.content is not Content.DELETE]:
            self.begin(RoundPlan.delete(each.under, each.last_sequence, protocols), each.pending, repetition, now)

    def reach(self, member: Member, held: bytes | None, now: float) -> bool:
        """Have the rekey under the KEK `held` go to `member` too; returns whether there is one."""
        live = next((each for each in self._rounds if each.content is not Content.DELETE and each.under.spi == held), None)
        if live is not None:
            live.add(member, now)
        return live is not None

    def release(self, peer: Endpoint, *, unless_under: bytes | None = None) -> None:
        """Send no more to `peer`, but for what goes under the KEK `unless_under`."""
        for each in self._rounds:
            if each.under.spi != unless_under:
                each.drop(peer)

    def acknowledge(self, peer: Endpoint, spi: bytes, sequence: int) -> Member | None:
        """The member at `peer` answers the rekey `sequence` under the KEK `spi`, so it holds no earlier KEK: returns it the first time."""
        for index, each in enumerate(self._rounds):
            if each.under.spi == spi and (member := each.acknowledge(peer, sequence)) is not None:
                for earlier in self._rounds[:index]:
                    earlier.drop(peer)
                return member
        return None

    def run(self, group: KeyServerGroup, now: float, next_rekey: float | None) -> Progress:
        """Send what is due. At `next_rekey` one comes that says all of it again."""
        steps: list[Progress] = []
        for each in self._rounds:
            is_said_again = self._is_present(each.under) and not each.owes_present_source
            if each.next_is_retransmission and is_said_again and is_retransmission_suppressed(now, next_rekey):
                each.stop_retransmitting()
            while (batch := each.next_batch(now)) is not None:
                steps.append(self._transmit(each, batch, group, now))
        effects = [effect for step in steps for effect in step.effects]
        return Progress(effects, any(step.must_be_saved for step in steps), any(step.was_given_up for step in steps))

    def finish(self, now: float) -> tuple[Round, ...]:
        """Take the rounds that are over off the list."""
        over = tuple(each for each in self._rounds if each.is_over(now))
        self._rounds = [each for each in self._rounds if each not in over]
        return over

    def end(self, contents: Collection[Content]) -> tuple[RekeyKey, ...]:
        """Send no more of these; returns the KEKs that they went under."""
        ended = tuple(each.under for each in self._rounds if each.content in contents)
        self._rounds = [each for each in self._rounds if each.content not in contents]
        return ended

    def _is_present(self, kek: RekeyKey) -> bool:
        """Whether the next rekey goes under `kek` too, and says all again to those who missed one."""
        return self._keys.kek is not None and self._keys.kek.spi == kek.spi

    def _transmit(self, each: Round, batch: Batch, group: KeyServerGroup, now: float) -> Progress:
        """The datagrams of one batch: one message, signed once, to every member of it (or to the multicast group)."""
        signer = signer_of(each.under, self._signers)
        if isinstance(signer, SignerFault):
            return self._give_up(each, batch, report(signer.value, group=group.name, label=each.under.key_label), now)
        source = source_of(group, self._members)
        try:
            message = self._message(each, batch.sequence, signer, group, source, now)
        except GdoiError as error:
            return self._give_up(each, batch, report("KS_REKEY_FAILED", group=group.name, reason=error.detail), now)
        effects: list[GroupEffect] = []
        each.note_asked(self._told(each) or each.under)
        source = each.source(source)
        if batch.opens:
            effects.append(_sending(each.under, batch, group.name, source))
            self.sent += not batch.is_retry
        if not each.under.unicast:
            effects.append(Send(message, Endpoint(source, GDOI_PORT), Endpoint(each.under.destination, GDOI_PORT), may_wait=True))
        for member in batch.members:
            member.note_sent(batch.sequence, is_retry=batch.is_retry)
            server = member.record.server
            is_bound = source == NO_ADDRESS or member.record.is_behind_nat  # a NAT lets in only those that were asked
            from_end = server if is_bound else Endpoint(source, server.port)
            effects.append(Send(wrap(message, from_end.port), from_end, member.peer, may_wait=True))
        return Progress(effects, must_be_saved=batch.opens)

    def _give_up(self, each: Round, batch: Batch, why: GroupEffect, now: float) -> Progress:
        """Nobody hears this round: what it was to tell of the KEK the next one has to, and of the rest the one that the group sends as
        soon as it can sign. Where nobody has heard any of it, nobody begins to send with what it was to bring either, and
        a new KEK is known to those who register from now on."""
        each.give_up()
        if batch.opens and not batch.is_retry:
            self._keys.call_off_activation(since=each.started)
            if each.content is Content.KEK and self._keys.kek is not None:
                self._keys.kek = replace(self._keys.kek, known_since=now)
        if each.tells_kek:
            self._keys.lifetime_is_known = False
        return Progress([why], must_be_saved=True, was_given_up=each.content is not Content.DELETE)

    def _told(self, each: Round) -> RekeyKey | None:
        """The KEK that a message of this round tells of now; None where members have heard all of the one that protects it."""
        kek = self._keys.kek
        is_news = kek is not None and (kek.spi != each.under.spi or each.tells_kek)
        return kek if is_news and each.content is not Content.DELETE else None

    def _message(self, each: Round, sequence: int, signer: RsaPrivateKey, group: KeyServerGroup, source: IPv4Address, now: float) -> bytes:
        under = each.under.as_kek(now, source)
        if each.content is Content.DELETE:
            return build_push(None, under, signer, sequence, deletion=Deletion.of_everything(each.deletes))
        kek = self._told(each)
        download = self._keys.download(group, now, kek.as_kek(now, source) if kek is not None else None, sequence)
        return build_push(download, under, signer, sequence)


def _sending(under: RekeyKey, batch: Batch, name: str, source: IPv4Address) -> GroupEffect:
    if under.unicast:
        return report("KS_SEND_UNICAST_REKEY", group=name, source=source, sequence=batch.sequence)
    return report("KS_SEND_MCAST_REKEY", group=name, source=source, destination=under.destination, sequence=batch.sequence)
