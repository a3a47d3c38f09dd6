"""How a group that is served here is rekeyed: keys, transport, lifetimes, and what is missing for it."""

from groupvpn.config.build.context import Context
from groupvpn.config.diagnostics import Place, Severity
from groupvpn.config.draft import default_of
from groupvpn.config.grammar import candidates
from groupvpn.config.grammar.modes import LOCAL_SERVER
from groupvpn.config.language import Command
from groupvpn.config.section import Section, Statement
from groupvpn.crypto.registry import KekCipher, SignatureHash
from groupvpn.gdoi.policy import RekeyPolicy, TekPolicy
from groupvpn.gdoi.timers import EARLIEST_REKEY, KEK_LIFETIME_RANGE, RECOMMENDED_KEK_FACTOR, multicast_rekey_start, unicast_rekey_start
from groupvpn.ipsec.acl import AccessList, Action
from groupvpn.ipsec.transform import LIFETIME_RANGE

_COMMANDS: dict[str, Command] = {item.command.name: item.command for item in candidates(LOCAL_SERVER)}
_SIGNED = "rekey authentication"


def build_rekey(name: str, local: Section, address: Statement | None, context: Context) -> RekeyPolicy:
    """How the group is rekeyed; warns where a line that a rekey needs is missing."""
    key = local.statement(_SIGNED)
    unicast = local.statement("rekey transport unicast") is not None
    destination = local.statement("rekey address ipv4")
    if key is not None and "pubkey" in key.keywords:
        context.warn(key.place, "a public key cannot sign: no rekeys are sent", "use `rekey authentication mypubkey rsa LABEL`")
        key = None
    if key is not None and unicast and address is None:
        context.warn(key.place, f"group `{name}` has no address to send unicast rekeys from", "add `address ipv4 A.B.C.D`")
    if key is not None and not unicast and destination is None:
        context.warn(
            key.place, f"group `{name}` has nowhere to send multicast rekeys", "add `rekey address ipv4 LIST` or `rekey transport unicast`"
        )
    if key is None:
        _warn_unsigned(name, local, context)
    multicast_acl = context.policy_list(destination, f"group `{name}`")
    if key is not None and not unicast and destination is not None and multicast_acl is not None:
        _check_destination(destination, multicast_acl, context)
    retransmit = local.statement("rekey retransmit")
    period, count = 10, 2
    if retransmit is not None:
        period = retransmit.value("seconds", 10)
        count = 0 if retransmit.negated else retransmit.value("number", 2)
        if "periodic" in retransmit.keywords:
            message = f"retransmission without end: accepted, not yet in effect: a rekey is sent again {count} times"
            context.say(Severity.NOTICE, retransmit.place, message)
    acknowledge = local.statement("rekey acknowledgement")
    if acknowledge is not None and acknowledge.value("kind") == "cisco":
        context.warn(acknowledge.place, "this form of acknowledgement is not published: members acknowledge as in RFC 8263")
    policy = RekeyPolicy(
        key_label=key.value("label") if key else None,
        cipher=setting(local, "rekey algorithm").get("cipher", KekCipher),
        signature_hash=setting(local, "rekey sig-hash algorithm").get("hash", SignatureHash),
        lifetime=setting(local, "rekey lifetime seconds").get("seconds", int),
        retransmit_period=period,
        retransmit_count=count,
        unicast=unicast,
        multicast_acl=multicast_acl,
        acknowledge=not (acknowledge is not None and acknowledge.negated),
    )
    if key is not None:
        _warn_weak(key, policy, local, context)
    return policy


def _check_destination(statement: Statement, acl: AccessList, context: Context) -> None:
    """Multicast rekeys go where the first permit of their list says: to one address, of a multicast group."""
    permit = next((entry for entry in acl.entries if entry.action is Action.PERMIT), None)
    if permit is None:
        problem = "has no permit"
    elif not permit.destination.is_host:
        problem = "does not say where rekeys go: the first permit names no single destination"
    elif not permit.destination.address.is_multicast:
        problem = f"does not say where rekeys go: {permit.destination.address} is not a multicast address"
    else:
        return
    hint = "`permit udp host A eq 848 host G eq 848`, with A this key server and G the multicast group"
    context.warn(statement.where("list"), f"access list `{acl.name}` {problem}", hint)


def _warn_weak(key: Statement, policy: RekeyPolicy, local: Section, context: Context) -> None:
    """One warning for weak algorithms of the rekey SA, those that are only defaults included."""
    weak: list[str] = []
    better: list[str] = []
    if policy.cipher.is_legacy:
        weak.append(f"`rekey algorithm {policy.cipher.keyword}`{'' if local.statement('rekey algorithm') else ' (the default)'}")
        better.append("`rekey algorithm aes 256`")
    if policy.signature_hash is SignatureHash.SHA1:
        weak.append(f"`rekey sig-hash algorithm sha`{'' if local.statement('rekey sig-hash algorithm') else ' (the default)'}")
        better.append("`rekey sig-hash algorithm sha256`")
    if weak:
        context.warn(
            key.place, f"rekeys of this group are weak by today's measure: {', '.join(weak)}", f"if all members can: {', '.join(better)}"
        )


def _warn_unsigned(name: str, local: Section, context: Context) -> None:
    """Lines about rekeys in a group that has none; the key that cannot sign has a word of its own."""
    about = [item for item in local.children if isinstance(item, Statement) and item.command.head.startswith("rekey ")]
    if about and local.statement(_SIGNED) is None:
        first = min(about, key=lambda item: item.place.line)
        message = f"group `{name}` has no `rekey authentication`: no rekeys are sent, whatever this line says"
        hint = (
            "add `rekey authentication mypubkey rsa LABEL`, and make the key with `groupvpn exec NODE crypto key generate rsa label LABEL`"
        )
        context.warn(first.place, message, hint)


def check_lifetimes(local: Section, rekey: RekeyPolicy, teks: list[TekPolicy], context: Context) -> None:
    """What the lifetimes of keys leave no room for, in a group that has rekeys."""
    if rekey.key_label is None or not teks:
        return
    statement = local.statement("rekey lifetime seconds") or local.statement(_SIGNED)
    _check_kek_lifetime(statement.place if statement else local.place, rekey, max(tek.profile.lifetime for tek in teks), context)
    shortest = min(tek.profile.lifetime for tek in teks)
    if not _fits(shortest, rekey):
        enough = next((lifetime for lifetime in range(shortest, LIFETIME_RANGE.stop, 60) if _fits(lifetime, rekey)), LIFETIME_RANGE[-1])
        again = f" and {rekey.retransmit_count} retransmissions {rekey.retransmit_period} s apart" if rekey.retransmit_count else ""
        late = "the last of them come" if again else "it comes"
        message = f"a TEK lives {shortest} s, which is too short for a rekey{again}: {late} when members register again already"
        hint = f"a lifetime of {enough} s in the profile{', or fewer retransmissions' if again else ''}"
        place = next(item.place for item in (local.statement("rekey retransmit"), statement, local) if item is not None)
        context.warn(place, message, hint)


def _fits(lifetime: float, rekey: RekeyPolicy) -> bool:
    """Whether a rekey, to one batch of members at least, begins when its retransmissions ask for it, not when it must not be earlier."""
    if rekey.unicast:
        start = unicast_rekey_start(lifetime, 1, rekey.retransmit_count, rekey.retransmit_period)
    else:
        start = multicast_rekey_start(lifetime, rekey.retransmit_count, rekey.retransmit_period)
    return start > lifetime * EARLIEST_REKEY


def _check_kek_lifetime(place: Place, rekey: RekeyPolicy, longest: int, context: Context) -> None:
    """A KEK has to outlive the TEKs that it renews, and should do so by far."""
    if rekey.lifetime >= longest * RECOMMENDED_KEK_FACTOR:
        return
    better = min(longest * RECOMMENDED_KEK_FACTOR, KEK_LIFETIME_RANGE[-1])
    advice = f"at least {RECOMMENDED_KEK_FACTOR} times as long is recommended"
    if rekey.lifetime <= longest:
        advice = f"a KEK should outlive the TEKs that it renews, {advice}"
    hint = f"`rekey lifetime seconds {better}`, or a shorter lifetime in the profile"
    if rekey.lifetime >= better:
        hint = "a shorter lifetime in the profile"
    context.warn(place, f"the KEK lives {rekey.lifetime} s and a TEK {longest} s: {advice}", hint)


def setting(local: Section, command: str) -> Statement:
    """A setting of a key server, or the default that the grammar gives it."""
    statement = local.statement(command)
    return default_of(_COMMANDS[command]) if statement is None or statement.negated else statement
