"""Groups from their statements: what this node serves as a key server, and what it joins as a member."""

from ipaddress import IPv4Address

from groupvpn.config.build.context import Context
from groupvpn.config.build.transforms import replay_window
from groupvpn.config.diagnostics import Severity
from groupvpn.config.draft import default_of
from groupvpn.config.grammar import candidates
from groupvpn.config.grammar.modes import LOCAL_SERVER
from groupvpn.config.language import Command
from groupvpn.config.model import Interface
from groupvpn.config.section import Section, Statement
from groupvpn.crypto.registry import KekCipher, SignatureHash
from groupvpn.effects import GDOI_PORT, ISAKMP_PORT, NAT_T_PORT
from groupvpn.gdoi.policy import GroupIdentity, KeyServerGroup, MemberGroup, RekeyPolicy, Replay, ReplayMethod, TekPolicy
from groupvpn.gdoi.timers import KEK_LIFETIME_RANGE, RECOMMENDED_KEK_FACTOR
from groupvpn.ipsec.acl import ANY_PROTOCOL, MAXIMUM_ENTRIES, AccessList, Action, AddressMatch, Entry
from groupvpn.ipsec.transform import Profile, Transform

_COMMANDS: dict[str, Command] = {item.command.name: item.command for item in candidates(LOCAL_SERVER)}
_MAXIMUM_CLIENT_SETS = 6


def build_groups(context: Context, interfaces: tuple[Interface, ...]) -> tuple[tuple[KeyServerGroup, ...], dict[str, MemberGroup]]:
    """Every complete group: those served here, and those joined. One node never does both."""
    served: list[KeyServerGroup] = []
    joined: dict[str, MemberGroup] = {}
    roles: dict[str, Section] = {}
    for section in context.root.sections("crypto gdoi group"):
        local = section.section("server local")
        joins = next(section.statements("server address ipv4"), None)
        name = str(section.header.value("name")) if section.header else ""
        if local and joins:
            context.error(
                joins.place, f"group `{name}` is both served here and joined", "remove `server local` or the `server address` lines"
            )
            continue
        role = "server" if local else "member" if joins else ""
        if role:
            other = roles.get("member" if role == "server" else "server")
            if other is not None:
                message = (
                    f"this node is {'a group member' if local else 'a key server'} already (line {other.place.line}): it cannot be both"
                )
                context.error(section.place, message, "run the key server on a node of its own")
            roles.setdefault(role, section)
        identity = _identity(section, name, context)
        if identity is None:
            continue
        if local:
            _check_identity(section, identity, served, context)
            served.append(_served(name, identity, local, interfaces, context))
            _warn_without_effect(local, served[-1].address, context)
        else:
            member = _member(name, identity, section, context)
            if member is not None:
                joined[name] = member
    return tuple(served), joined


def _identity(section: Section, name: str, context: Context) -> GroupIdentity | None:
    statement = section.statement("identity")
    if statement is None:
        context.warn(section.place, f"group `{name}` has no identity: it is incomplete and left out", "add `identity number N`")
        return None
    number = statement.value("number")
    identity: GroupIdentity = number if number is not None else statement.value("address")
    return identity


def _check_identity(section: Section, identity: GroupIdentity, served: list[KeyServerGroup], context: Context) -> None:
    """A registration names its group by the identity alone, so that two groups served here need two."""
    other = next((group.name for group in served if group.identity == identity), None)
    statement = section.statement("identity")
    if other is not None and statement is not None:
        message = f"group `{other}` has the identity {identity} already: members of both groups would be given the keys of `{other}`"
        context.error(statement.place, message, "every group of a key server needs an identity of its own")


def _served(name: str, identity: GroupIdentity, local: Section, interfaces: tuple[Interface, ...], context: Context) -> KeyServerGroup:
    address = local.statement("address ipv4")
    rekey = _rekey(name, local, address, context)
    teks = [tek for tek in (_tek(name, section, context) for section in local.sections("sa ipsec")) if tek]
    if rekey.key_label is not None:
        _check_kek_lifetime(local, rekey, teks, context)
    return KeyServerGroup(
        name=name,
        identity=identity,
        address=address.value("address") if address else None,
        teks=tuple(sorted(teks, key=lambda tek: tek.slot)),
        rekey=rekey,
        authorization=_authorization(local.statement("authorization address ipv4"), context),
        receive_only=local.statement("sa receive-only") is not None,
        sender_id_bits=_setting(local, "group size").get("size", int),
        registration_addresses=_registration_addresses(local, interfaces, context),
    )


def _check_kek_lifetime(local: Section, rekey: RekeyPolicy, teks: list[TekPolicy], context: Context) -> None:
    """A KEK has to outlive the TEKs that it renews."""
    longest = max((tek.profile.lifetime for tek in teks), default=0)
    if rekey.lifetime <= longest:
        better = min(longest * RECOMMENDED_KEK_FACTOR, KEK_LIFETIME_RANGE[-1])
        statement = local.statement("rekey lifetime seconds") or local.statement("rekey authentication")
        context.warn(
            statement.place if statement else local.place,
            f"the KEK lives {rekey.lifetime} s and a TEK {longest} s: a KEK should outlive the TEKs that it renews",
            f"`rekey lifetime seconds {better}`, or a shorter lifetime in the profile",
        )


def _registration_addresses(local: Section, interfaces: tuple[Interface, ...], context: Context) -> tuple[IPv4Address, ...] | None:
    """Where members may register. An interface that has no address adds none, so a list that comes to nothing lets nobody in."""
    statements = list(local.statements("registration interface"))
    if not statements:
        return None
    found: list[IPv4Address] = []
    for statement in statements:
        name = statement.value("interface")
        chosen = next((item for item in interfaces if item.name == name and not item.shutdown), None)
        addresses = [item.ip for item in filter(None, (chosen.address, *chosen.secondary))] if chosen else []
        if not addresses:
            hint = "give it `ip address A.B.C.D MASK`, and no `shutdown`"
            context.warn(statement.where("interface"), f"{name} has no address in this configuration: nobody can register there", hint)
        found += addresses
    return tuple(found)


def _authorization(statement: Statement | None, context: Context) -> AccessList | None:
    """Who may register. A list that is missing is an error: without it everyone could."""
    if statement is None:
        return None
    name = str(statement.value("list"))
    if name not in context.access_lists:
        hint = "define it, or remove the line to let every address register"
        context.error(statement.where("list"), f"access list `{name}` does not exist: it could refuse nobody", hint)
        return AccessList(name)
    if any(entry != Entry(entry.action, ANY_PROTOCOL, entry.source, AddressMatch.any()) for entry in context.access_lists[name].entries):
        message = f"access list `{name}` is an extended one: only its sources are compared, so that more may register than it seems"
        context.warn(statement.where("list"), message, "use a standard list, such as `access-list 5 permit 10.0.0.0 0.0.0.255`")
    return context.policy_list(statement, "`authorization address`") or AccessList(name)


def _rekey(name: str, local: Section, address: Statement | None, context: Context) -> RekeyPolicy:
    """How the group is rekeyed; warns where a line that a rekey needs is missing."""
    key = local.statement("rekey authentication")
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
    multicast_acl = context.policy_list(destination, f"group `{name}`")
    if key is not None and not unicast and destination is not None and multicast_acl is not None:
        _check_destination(destination, multicast_acl, context)
    retransmit = local.statement("rekey retransmit")
    period, count = 10, 2
    if retransmit is not None:
        period = retransmit.value("seconds", 10)
        count = 0 if retransmit.negated else retransmit.value("number", 2)
    acknowledge = local.statement("rekey acknowledgement")
    if acknowledge is not None and acknowledge.value("kind") == "cisco":
        context.warn(acknowledge.place, "this form of acknowledgement is not published: members acknowledge as in RFC 8263")
    policy = RekeyPolicy(
        key_label=key.value("label") if key else None,
        cipher=_setting(local, "rekey algorithm").get("cipher", KekCipher),
        signature_hash=_setting(local, "rekey sig-hash algorithm").get("hash", SignatureHash),
        lifetime=_setting(local, "rekey lifetime seconds").get("seconds", int),
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


def _tek(name: str, section: Section, context: Context) -> TekPolicy | None:
    """One traffic policy, None (and a word of it) while its profile or access list is missing."""
    sequence = section.header.value("sequence") if section.header else 0
    user = f"`sa ipsec {sequence}` of group `{name}`"
    wanted = section.statement("profile")
    acl = section.statement("match address ipv4")
    if wanted is None or acl is None:
        context.warn(section.place, f"{user} needs a `profile` and a `match address`: it is incomplete and left out")
        return None
    profile = context.profiles.get(wanted.value("name"))
    if profile is not None and profile.name in context.unusable_profiles:
        message = f"{user} has profile `{profile.name}`, of whose transforms we support none: members would send its traffic in the clear"
        context.error(wanted.where("name"), message, "use a transform set of `esp-gcm`, or of `esp-aes` and `esp-sha256-hmac`")
    elif profile is None:
        message = f"{user} names profile `{wanted.value('name')}`, which does not exist: nothing would be protected by it"
        context.missing(wanted, "name", message, context.profiles)
    elif not profile.transform_sets:
        message = f"{user} has profile `{profile.name}`, which has no transform set: members would send its traffic in the clear"
        context.error(wanted.where("name"), message, "add `set transform-set NAME` to the profile")
    entries = context.policy_list(acl, user, protects=True)
    if entries is not None and len(entries.entries) > MAXIMUM_ENTRIES:
        context.warn(acl.where("list"), f"a group policy has {MAXIMUM_ENTRIES} entries at most: the later ones are not sent (GDOI_ACL_NUM)")
    is_whole = entries is not None and not any(remark.severity is Severity.ERROR for remark in context.remarks.get(entries.name, ()))
    if entries is not None and is_whole and all(entry.action is Action.DENY for entry in entries.entries):
        state = "permits nothing" if entries.entries else "has no entries"
        context.warn(acl.where("list"), f"{user} names access list `{entries.name}`, which {state}: nothing is encrypted")
    if profile is None or not profile.transform_sets or entries is None:
        return None
    return TekPolicy(sequence, profile, entries, _replay(section, profile, context))


def _replay(section: Section, profile: Profile, context: Context) -> Replay:
    """Anti-replay as configured here, in the profile or globally, else what suits the transform; warns of one that drops honest packets.

    The global setting is for SAs of all kinds: it gives no window to a transform whose packets do not name their sender.
    """
    transform = profile.transform_sets[0].transform
    by_time = section.statement("replay time window-size")
    if by_time is not None:
        if not transform.cipher.iv_length:
            context.warn(
                by_time.place,
                f"with `{transform.keywords}` packets have no IV that a counter could hide in: a packet that is repeated inside the "
                "window is not told from the first one",
                "use a transform that encrypts, or `esp-gcm`",
            )
        return Replay(ReplayMethod.TIME, by_time.value("seconds"))
    counter = section.statement("replay counter window-size")
    if counter is not None:
        window = 0 if counter.negated else counter.value("packets")
    elif profile.replay_window is not None:
        window = profile.replay_window
    else:
        everywhere = replay_window(context.root.statement("crypto ipsec security-association replay"))
        default = Replay.default_for(transform)
        return default if everywhere is None or not default.window else _counted(everywhere)
    if window and not transform.cipher.is_counter_mode:
        context.warn(
            counter.place if counter is not None else section.place,
            f"with `{transform.keywords}` packets do not tell who sent them: this window is right for groups of two members only, "
            "and drops honest packets of larger ones and of members that were restarted",
            "use a transform with GCM, GMAC or CTR, or remove the line (no anti-replay)",
        )
    return _counted(window)


def _counted(window: int) -> Replay:
    return Replay(ReplayMethod.COUNTER, window) if window else Replay(ReplayMethod.DISABLED)


def _warn_without_effect(local: Section, own: IPv4Address | None, context: Context) -> None:
    """A word about what is read and does nothing yet, where that is not plain from the line itself."""
    cooperative = local.section("redundancy")
    for item in cooperative.statements("peer address ipv4") if cooperative is not None else ():
        if item.value("address") == own:
            context.warn(item.where("address"), "this key server is named as its own peer")
    identity = local.statement("authorization identity")
    if identity is not None:
        context.warn(
            identity.place,
            "authorization by certificate is not yet in effect: this line refuses nobody who has a pre-shared key",
            "`authorization address ipv4 LIST` refuses all but the addresses of a list",
        )


def _member(name: str, identity: GroupIdentity, section: Section, context: Context) -> MemberGroup | None:
    servers = [address for item in section.statements("server address ipv4") if (address := _server(item, context))]
    if not servers:
        if next(section.statements("server address ipv4"), None) is None:
            hint = "add `server address ipv4 A.B.C.D` (a member) or `server local` (a key server)"
            context.warn(section.place, f"group `{name}` has no key server: it is incomplete and left out", hint)
        return None
    ciphers = section.statement("client rekey encryption")
    hashes = section.statement("client rekey hash")
    port, sends = _esp_in_udp(section.statement("client esp-in-udp"), name, context)
    return MemberGroup(
        name,
        identity,
        tuple(servers),
        passive=section.statement("passive") is not None,
        accepted_kek_ciphers=ciphers.all("cipher") if ciphers else (),
        accepted_kek_hashes=hashes.all("hash") if hashes else (),
        accepted_transforms=_accepted(section.statement("client transform-sets"), context),
        esp_in_udp_port=port,
        sends_esp_in_udp=sends,
    )


def _esp_in_udp(statement: Statement | None, name: str, context: Context) -> tuple[int, bool]:
    """Port of our own form of ESP, and whether we send so, which is worth a notice: nothing tells others why they cannot read it."""
    if statement is None:
        return NAT_T_PORT, False
    port: int = statement.value("port", NAT_T_PORT)
    if port in (ISAKMP_PORT, GDOI_PORT):
        context.error(statement.where("port"), f"UDP port {port} is that of key management", f"use {NAT_T_PORT} or a port of its own")
    sends = "receive-only" not in statement.keywords
    if sends:
        message = f"group `{name}`: this member sends ESP in UDP, an extension of groupvpn that members of another make cannot read"
        context.say(Severity.NOTICE, statement.place, message)
    return port, sends


def _server(statement: Statement, context: Context) -> IPv4Address | None:
    value = statement.value("address")
    if isinstance(value, IPv4Address):
        return value
    addresses = context.hosts.get(str(value).lower())
    if not addresses:
        context.error(statement.where("address"), f"key server `{value}` has no address", "give it one with `ip host NAME ADDRESS`")
        return None
    return addresses[0]


def _accepted(statement: Statement | None, context: Context) -> tuple[Transform, ...]:
    if statement is None:
        return ()
    names = statement.all("name")
    if len(names) > _MAXIMUM_CLIENT_SETS:
        context.error(statement.where("name"), f"{len(names)} transform sets are named, at most {_MAXIMUM_CLIENT_SETS} are allowed")
    missing = [name for name in names if name not in context.transform_sets]
    for name in missing:
        context.error(statement.where("name"), f"transform set `{name}` does not exist or cannot be used")
    return tuple(context.transform_sets[name].transform for name in names if name not in missing)


def _setting(local: Section, command: str) -> Statement:
    """A setting of a key server, or the default that the grammar gives it."""
    statement = local.statement(command)
    return default_of(_COMMANDS[command]) if statement is None or statement.negated else statement
