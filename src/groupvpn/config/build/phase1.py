"""Phase 1 from its statements: policies by priority, keys, identity, and a word about weak algorithms."""

from ipaddress import IPv4Network

from groupvpn.config.build.context import Context
from groupvpn.config.draft import default_of
from groupvpn.config.grammar import candidates
from groupvpn.config.grammar.isakmp import peers_of_key
from groupvpn.config.grammar.modes import ISAKMP_POLICY
from groupvpn.config.language import Command
from groupvpn.config.section import Section, Statement
from groupvpn.crypto.registry import IkeAuthentication, IkeCipher, IkeGroup, IkeHash
from groupvpn.ike.policy import (
    KEEPALIVE_INTERVAL,
    ClientEndpoint,
    IdentityKind,
    IkeConfiguration,
    IsakmpPolicy,
    Keepalive,
    PresharedKey,
)
from groupvpn.wire.iana import IdType
from groupvpn.wire.payloads import Identification

_COMMANDS: dict[str, Command] = {item.command.name: item.command for item in candidates(ISAKMP_POLICY)}
_LONG = 20
"""Characters from which a pre-shared key may be taken for one that nobody guesses."""
_SHOWN = 3
"""Lines that a warning about several names."""
_MODERN = {"encryption": "aes 256", "hash": "sha256", "group": "19"}


def build_ike(context: Context, hostname: str) -> IkeConfiguration:
    """The phase 1 configuration."""
    root = context.root
    policies = tuple(
        sorted((_policy(section, context) for section in root.sections("crypto isakmp policy")), key=lambda item: item.priority)
    )
    peers = tuple(root.sections("crypto isakmp peer address"))
    passwords = [(item, _password(peer, item, context)) for peer in peers if (item := peer.statement("set aggressive-mode password"))]
    given = [(item, _key(item, context)) for item in root.statements("crypto isakmp key")]
    keys = [(item, key) for item, key in (*passwords, *given) if key]  # passwords first: of equal prefixes the first counts
    identity = root.statement("crypto isakmp identity")
    keepalive = root.statement("crypto isakmp keepalive")
    refuses_aggressive = root.statement("crypto isakmp aggressive-mode disable") is not None
    begins_aggressive = any(
        item.command.head.startswith("set aggressive-mode") for peer in peers for item in peer.children if isinstance(item, Statement)
    )
    _warn_disabled(root.statement("crypto isakmp enable"), context)
    _warn_weak_keys(keys, guessable=not refuses_aggressive and not begins_aggressive, context=context)
    return IkeConfiguration(
        policies=policies,
        keys=tuple(key for _, key in keys),
        identity=identity.value("kind") if identity else IdentityKind.ADDRESS,
        hostname=hostname,
        keepalive=_keepalive(keepalive) if keepalive else None,
        refuses_aggressive=refuses_aggressive,
        client_endpoints=tuple(found for peer in peers if (found := _client_endpoint(peer, context, refused=refuses_aggressive))),
        nat_keepalive=_nat_keepalive(root.statement("crypto isakmp nat keepalive")),
    )


def _warn_disabled(statement: Statement | None, context: Context) -> None:
    if statement is not None and statement.negated:
        hint = "stop the node if it shall be silent, or remove the line"
        context.warn(statement.place, "phase 1 stays on: without it there are no registrations", hint)


def _nat_keepalive(statement: Statement | None) -> int | None:
    if statement is None:
        return KEEPALIVE_INTERVAL
    return None if statement.negated else int(statement.value("seconds"))


def _policy(section: Section, context: Context) -> IsakmpPolicy:
    """One policy, with the defaults that the grammar gives for what it does not say."""

    def setting(name: str) -> Statement:
        return section.statement(name) or default_of(_COMMANDS[name])

    policy = IsakmpPolicy(
        section.header.get("priority", int) if section.header else 0,
        cipher=setting("encryption").get("cipher", IkeCipher),
        hash=setting("hash").get("hash", IkeHash),
        authentication=setting("authentication").get("method", IkeAuthentication),
        group=setting("group").get("group", IkeGroup),
        lifetime=setting("lifetime").get("seconds", int),
    )
    _warn_legacy(section, policy, context)
    if policy.authentication is IkeAuthentication.RSA_ENCRYPTION:
        context.warn(section.place, "authentication by RSA encryption is accepted, not yet in effect: the policy is not offered")
    elif policy.authentication is IkeAuthentication.RSA_SIGNATURES:
        stated = "" if section.statement("authentication") else " (the default)"
        context.warn(
            section.place,
            f"authentication by RSA signatures{stated} is accepted, not yet in effect: the policy is not offered",
            "`authentication pre-share` with `crypto isakmp key` works",
        )
    return policy


def _warn_legacy(section: Section, policy: IsakmpPolicy, context: Context) -> None:
    """One warning for all the weak algorithms of a policy, those that are only defaults included."""
    algorithms = (("encryption", policy.cipher), ("hash", policy.hash), ("group", policy.group))
    weak = [name for name, algorithm in algorithms if algorithm.is_legacy]
    if not weak:
        return
    shown = []
    for name in weak:
        stated = section.statement(name)
        shown.append(f"`{(stated or default_of(_COMMANDS[name])).text()}`{'' if stated else ' (the default)'}")
    better = ", ".join(f"`{name} {_MODERN[name]}`" for name in weak)
    context.warn(section.place, f"weak by today's measure: {', '.join(shown)} (RFC 8247)", f"if all peers can: {better}")


def _client_endpoint(peer: Section, context: Context, *, refused: bool) -> ClientEndpoint | None:
    """The identity to present to a peer in aggressive mode, if its section asks for that mode."""
    statement = peer.statement("set aggressive-mode client-endpoint")
    if statement is None or peer.header is None:
        return None
    if refused:
        hint = "remove this line, or `crypto isakmp aggressive-mode disable`"
        context.warn(statement.place, "aggressive mode is disabled: this node begins with main mode, and shows its own identity", hint)
    else:
        context.warn(
            statement.place,
            "aggressive mode shows identities in the clear and lets whoever sees it guess at the key",
            "use a long random key, or main mode, which needs no `client-endpoint`",
        )
    return ClientEndpoint(peer.header.value("address"), _identification(statement))


def _identification(statement: Statement) -> Identification:
    if statement.value("address") is not None:
        return Identification.ipv4(statement.value("address"))
    if statement.value("fqdn") is not None:
        return Identification(IdType.FQDN, statement.value("fqdn").encode("ascii"))
    return Identification(IdType.USER_FQDN, statement.value("user").encode("ascii"))


def _password(peer: Section, statement: Statement, context: Context) -> PresharedKey | None:
    """The key of a peer's own section."""
    if peer.header is None or not _is_plain(statement, context):
        return None
    return PresharedKey(statement.value("key"), IPv4Network(peer.header.value("address")))


def _key(statement: Statement, context: Context) -> PresharedKey | None:
    if not _is_plain(statement, context):
        return None
    peers = peers_of_key(statement.values)
    if isinstance(peers, str):
        return PresharedKey(statement.value("key"), hostname=statement.value("hostname"))
    return PresharedKey(statement.value("key"), peers)


def _warn_weak_keys(keys: list[tuple[Statement, PresharedKey]], *, guessable: bool, context: Context) -> None:
    """A word for each thing that is wrong with keys, not for each key: keys that can be guessed, and keys that several peers share.

    `guessable` says whether this node answers aggressive mode for no reason: that shows to whoever asks what guesses are tried against.
    """
    short = [item for item, key in keys if _length(key) < _LONG]
    wide = [(item, key.network) for item, key in keys if key.network is not None and key.network.prefixlen < 32]
    if short:
        one, many = (
            f"this pre-shared key has fewer than {_LONG} characters",
            f"{len(short)} pre-shared keys have fewer than {_LONG} characters",
        )
        message = one if len(short) == 1 else f"{many} ({_lines(short)})"
        hint = "a long random key for each peer, such as `openssl rand -hex 24` makes, at both ends"
        context.warn(short[0].place, f"{message}: short keys are found by guessing", hint)
    if wide:
        statements = [item for item, _ in wide]
        peers = "any peer at all" if any(network.prefixlen == 0 for _, network in wide) else "several peers"
        many = f"{len(wide)} pre-shared keys are for several peers or any ({_lines(statements)})"
        message = f"this key is for {peers}" if len(wide) == 1 else many
        context.warn(statements[0].place, f"{message}: whoever knows it can take any other's place", "use a key per peer")
    if guessable and (short or wide):
        first = min((*short, *(item for item, _ in wide)), key=lambda item: item.place.line)
        message = "whoever asks for aggressive mode is answered with a hash against which guesses at such a key can be tried"
        context.warn(first.place, message, "add `crypto isakmp aggressive-mode disable`, unless a peer begins with that mode")


def _length(key: PresharedKey) -> int:
    """Characters of a key; one that a printed configuration hides (`****`) is as long as any."""
    text = key.key.reveal().decode(errors="replace")
    return _LONG if not text.strip("*") else len(text)


def _lines(statements: list[Statement]) -> str:
    numbers = sorted(item.place.line for item in statements)
    return f"lines {', '.join(map(str, numbers[:_SHOWN]))}{' …' if len(numbers) > _SHOWN else ''}"


def _is_plain(statement: Statement, context: Context) -> bool:
    """Whether the key is in clear; encrypted ones need a master key, which is not kept here."""
    if statement.value("encoding", 0) == 0:
        return True
    context.error(
        statement.where("encoding"), "an encrypted key cannot be read: there is no master key here", "give the key in clear, with `0`"
    )
    return False


def _keepalive(statement: Statement) -> Keepalive:
    return Keepalive(statement.value("seconds"), statement.value("retries", 2), "periodic" in statement.keywords)
