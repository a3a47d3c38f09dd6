"""Groups from their statements: what this node serves as a key server, and what it joins as a member."""

from ipaddress import IPv4Address

from groupvpn.config.build.context import Context, nearest
from groupvpn.config.build.lists import check_traffic_list, is_refused, told_list
from groupvpn.config.build.rekeys import build_rekey, check_lifetimes, setting
from groupvpn.config.build.transforms import replay_window
from groupvpn.config.diagnostics import Severity
from groupvpn.config.model import Interface
from groupvpn.config.section import Section, Statement
from groupvpn.effects import GDOI_PORT, ISAKMP_PORT, NAT_T_PORT
from groupvpn.gdoi.policy import GroupIdentity, KeyServerGroup, MemberGroup, Replay, ReplayMethod, TekPolicy
from groupvpn.ipsec.acl import ANY_PROTOCOL, MAXIMUM_ENTRIES, AccessList, Action, AddressMatch, Entry
from groupvpn.ipsec.transform import Profile, Transform

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
        identity = _identity(section, name, context, is_served=local is not None)
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
    _check_authorization(context, served)
    return tuple(served), joined


def _identity(section: Section, name: str, context: Context, *, is_served: bool) -> GroupIdentity | None:
    """Of a group that `is_served` it must be there: else the running key server would take the group for one that was removed. An excerpt
    has no profile that such a group could use."""
    statement = section.statement("identity")
    if statement is None and name in context.refused:
        return None
    if statement is None and is_served and context.profiles:
        message = f"group `{name}` has no identity: it would be served no more, and its members and keys forgotten"
        context.error(section.place, message, f"add `identity number N`, or remove the group with `no crypto gdoi group {name}`")
        return None
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


def _check_authorization(context: Context, served: list[KeyServerGroup]) -> None:
    """A pre-shared key is for a peer, not for a group: with several groups only their lists tell whose member it is."""
    open_groups = [group.name for group in served if group.authorization is None]
    for section in context.root.sections("crypto gdoi group") if len(served) > 1 else ():
        local = section.section("server local")
        if local and section.header and section.header.value("name") in open_groups:
            message = f"group `{section.header.value('name')}` is one of {len(served)} and has no `authorization address`"
            hint = "add `authorization address ipv4 LIST`, with `access-list 5 permit A.B.C.D` for each of its members"
            context.warn(local.place, f"{message}: members of the others may join it", hint)


def _served(name: str, identity: GroupIdentity, local: Section, interfaces: tuple[Interface, ...], context: Context) -> KeyServerGroup:
    address = local.statement("address ipv4")
    rekey = build_rekey(name, local, address, context)
    teks = [tek for tek in (_tek(name, section, context) for section in local.sections("sa ipsec")) if tek]
    check_lifetimes(local, rekey, teks, context)
    if local.section("sa ipsec") is None:
        hint = "add `sa ipsec 1` with `profile NAME` and `match address ipv4 LIST`"
        context.warn(local.place, f"group `{name}` has no `sa ipsec`: there is nothing to encrypt, and registrations are refused", hint)
    return KeyServerGroup(
        name=name,
        identity=identity,
        address=address.value("address") if address else None,
        teks=tuple(sorted(teks, key=lambda tek: tek.slot)),
        rekey=rekey,
        authorization=_authorization(local.statement("authorization address ipv4"), context),
        receive_only=local.statement("sa receive-only") is not None,
        sender_id_bits=setting(local, "group size").get("size", int),
        registration_addresses=_registration_addresses(local, interfaces, context),
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
    if name in context.refused:
        return AccessList(name)
    if name not in context.access_lists:
        hint = nearest(name, context.access_lists) or "define it, or remove the line to let every address register"
        context.error(statement.where("list"), f"access list `{name}` does not exist: it could refuse nobody", hint)
        return AccessList(name)
    if any(entry != Entry(entry.action, ANY_PROTOCOL, entry.source, AddressMatch.any()) for entry in context.access_lists[name].entries):
        message = f"access list `{name}` is an extended one: only its sources are compared, so that more may register than it seems"
        context.warn(statement.where("list"), message, "use a standard list, such as `access-list 5 permit 10.0.0.0 0.0.0.255`")
    return context.policy_list(statement, "`authorization address`") or AccessList(name)


def _tek(name: str, section: Section, context: Context) -> TekPolicy | None:
    """One traffic policy, None (and a word of it) while its profile or access list is missing.

    Without the lines that name them it is an error, but for an excerpt: the running key server would take it for one that was removed, and
    members would send in the clear at once.
    """
    sequence = section.header.value("sequence") if section.header else 0
    user = f"`sa ipsec {sequence}` of group `{name}`"
    wanted = section.statement("profile")
    acl = section.statement("match address ipv4")
    if (wanted is None or acl is None) and name in context.refused:
        return None
    if wanted is None or acl is None:
        lines = (("profile", "NAME", wanted, context.profiles), ("match address", "ipv4 LIST", acl, context.access_lists))
        absent = [(head, rest, known) for head, rest, statement, known in lines if statement is None]
        lacks, adds = " and ".join(f"no `{head}`" for head, *_ in absent), " and ".join(f"`{head} {rest}`" for head, rest, _ in absent)
        report = context.error if any(known for *_, known in absent) else context.warn
        message = f"{user} has {lacks}: members would send its traffic in the clear"
        report(section.place, message, f"add {adds}, or remove it with `no sa ipsec {sequence}`")
        return None
    profile = context.profiles.get(wanted.value("name"))
    if wanted.value("name") in context.refused:
        pass  # what it lacks may be what was refused
    elif profile is not None and profile.name in context.unusable_profiles:
        message = f"{user} has profile `{profile.name}`, of whose transforms we support none: members would send its traffic in the clear"
        context.error(wanted.where("name"), message, "use a transform set of `esp-gcm`, or of `esp-aes` and `esp-sha256-hmac`")
    elif profile is None:
        message = f"{user} names profile `{wanted.value('name')}`, which does not exist: nothing would be protected by it"
        context.missing(wanted, "name", message, context.profiles)
    elif profile.name in context.missing_sets and not profile.transform_sets:
        missing = context.missing_sets[profile.name]
        message = f"{user} has profile `{profile.name}`, whose transform set `{missing}` does not exist"
        hint = nearest(missing, context.transform_sets) or f"define it with `crypto ipsec transform-set {missing} esp-gcm 256`"
        context.error(wanted.where("name"), f"{message}: members would send its traffic in the clear", hint)
    elif not profile.transform_sets:
        message = f"{user} has profile `{profile.name}`, which has no transform set: members would send its traffic in the clear"
        context.error(wanted.where("name"), message, "add `set transform-set NAME` to the profile")
    whole = context.policy_list(acl, user, protects=True)
    entries = told_list(whole, context) if whole is not None else None
    if entries is not None and len(entries.entries) > MAXIMUM_ENTRIES:
        context.warn(acl.where("list"), f"a group policy has {MAXIMUM_ENTRIES} entries at most: the later ones are not sent (GDOI_ACL_NUM)")
    is_whole = whole is not None and not is_refused(whole, context)
    if entries is not None and is_whole and all(entry.action is Action.DENY for entry in entries.entries):
        state = "permits nothing" if whole is not None and whole.entries else "has no entries"
        context.warn(acl.where("list"), f"{user} names access list `{entries.name}`, which {state}: nothing is encrypted")
    elif whole is not None and is_whole:
        check_traffic_list(whole, context)
    if profile is None or not profile.transform_sets or entries is None:
        return None
    _warn_of_further_sets(profile, context)
    return TekPolicy(sequence, profile, entries, _replay(user, name, section, profile, context))


def _warn_of_further_sets(profile: Profile, context: Context) -> None:
    """Two ends may agree on one of several transform sets. A key server tells its members the one that there is (RFC 6407 5.5)."""
    sections = context.root.sections("crypto ipsec profile")
    chosen = next(
        (section.statement("set transform-set") for section in sections if section.header and section.header.value("name") == profile.name),
        None,
    )
    if chosen is not None and len(set(profile.transform_sets)) > 1 and context.first_time("sets", profile.name):
        used = profile.transform_sets[0].name
        message = f"a group has one transform set, since members do not negotiate: of profile `{profile.name}` it uses `{used}`"
        context.warn(chosen.where("name"), message, f"`set transform-set {used}`, and a profile of its own for each other one")


def _replay(user: str, name: str, section: Section, profile: Profile, context: Context) -> Replay:
    """Anti-replay as configured here, in the profile or globally, else what suits the transform; warns of one that drops honest packets,
    and says where nobody has switched it off and there is none all the same.

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
        message = f"group `{name}`: replay by time is an extension of groupvpn, which members of another make do not know"
        context.say(Severity.NOTICE, by_time.place, message)
        return Replay(ReplayMethod.TIME, by_time.value("seconds"))
    counter = section.statement("replay counter window-size")
    if counter is not None:
        window = 0 if counter.negated else counter.value("packets")
    elif profile.replay_window is not None:
        window = profile.replay_window
    else:
        everywhere = replay_window(context.root.statement("crypto ipsec security-association replay"))
        default = Replay.default_for(transform)
        if not default.window and everywhere != 0:
            message = f"{user} has no anti-replay: with `{transform.keywords}` packets do not tell who sent them"
            hint = "`replay time window-size 5` gives one, and so does `esp-gcm`" if transform.cipher.iv_length else "`esp-gmac` gives one"
            context.say(Severity.NOTICE, section.place, message, hint)
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
    _warn_of_client(name, section, context)
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


def _warn_of_client(name: str, section: Section, context: Context) -> None:
    """Lines of a member that mean something on a router and nothing here."""
    interface, revert = section.statement("client registration interface"), section.statement("client fail-close revert")
    if interface is not None:
        message = f"group `{name}`: this line is not in effect: a member registers with the address of the interface that carries its map"
        hint = f"`crypto map NAME local-address {interface.value('interface')}` takes another interface's address"
        context.warn(interface.place, message, hint)
    if revert is not None:
        message = f"group `{name}`: this line is not in effect: when a registration fails the last policy stays, not fail-close"
        context.warn(revert.place, message, "what the last policy protects is dropped once its keys have expired; the rest passes")


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
        if name not in context.refused:
            message = f"transform set `{name}` does not exist or cannot be used"
            context.error(statement.where("name"), message, nearest(name, context.transform_sets))
    return tuple(context.transform_sets[name].transform for name in names if name not in missing)
