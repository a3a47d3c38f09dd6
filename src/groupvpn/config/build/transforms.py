"""Transform sets and profiles from their statements, checked for combinations that protect nothing or contradict themselves."""

from collections.abc import Sequence

from groupvpn.config.build.context import Context, nearest
from groupvpn.config.diagnostics import Severity
from groupvpn.config.grammar.ipsec import REFUSED, AuthenticationHeader
from groupvpn.config.section import Section, Statement
from groupvpn.crypto.registry import EspCipher, EspIntegrity
from groupvpn.gdoi.policy import REPLAY_WINDOW
from groupvpn.ipsec.transform import DEFAULT_LIFETIME, Mode, Profile, SecurityProtocol, Transform, TransformSet


def build_transforms(context: Context) -> None:
    """Fill `context.transform_sets` and `context.profiles`."""
    for section in context.root.sections("crypto ipsec transform-set"):
        header = section.header
        transform = _transform(section, header, context) if header else None
        if header and transform:
            name = header.value("name")
            context.transform_sets[name] = TransformSet(name, transform)
        elif header:
            _note_wrong(header, context)
    for section in context.root.sections("crypto ipsec profile"):
        if section.header:
            context.profiles[section.header.value("name")] = _profile(section, section.header, context)


def _note_wrong(header: Statement, context: Context) -> None:
    """A transform set that has an error, and is not only left out, is the error of what uses it too."""
    place = header.where("transform")
    if any(item.severity is Severity.ERROR and (item.line, item.column) == (place.line, place.column) for item in context.diagnostics):
        context.refused.add(header.value("name"))


def _transform(section: Section, header: Statement, context: Context) -> Transform | None:
    """The transform, None (and a diagnostic) if the words make none that we can build."""
    given = header.all("transform")
    place = header.where("transform")
    refused = [item for item in given if isinstance(item, str)]
    if refused:
        left_out = f"transform set `{header.value('name')}` is left out"
        context.warn(place, f"`{refused[0]}` is known and not supported: {left_out}", REFUSED[refused[0]])
        return None
    ciphers = [item for item in given if isinstance(item, EspCipher)]
    integrity = [item for item in given if isinstance(item, EspIntegrity)]
    headers = [item.integrity for item in given if isinstance(item, AuthenticationHeader)]
    if max(len(ciphers), len(integrity), len(headers)) > 1:
        context.error(place, "a transform set has one cipher and one integrity algorithm", "make a second transform set")
        return None
    mode = section.statement("mode")
    chosen_mode = mode.value("mode") if mode else Mode.TUNNEL
    if headers:
        return _authentication_header(header, headers[0], chosen_mode, len(given) > 1, context)
    problem = _problem(ciphers, integrity)
    if problem:
        context.error(place, *problem)
        return None
    transform = Transform(ciphers[0], integrity[0] if integrity else EspIntegrity.NONE, chosen_mode)
    _warn_weak(header, transform, context)
    return transform


def _authentication_header(header: Statement, integrity: EspIntegrity, mode: Mode, has_more: bool, context: Context) -> Transform | None:
    """AH alone. With ESP it would be two SAs around one packet (RFC 4301 4.1), which the engine does not build."""
    place = header.where("transform")
    if has_more:
        message = f"AH and ESP around one packet are not supported: transform set `{header.value('name')}` is left out"
        context.warn(place, message, f"ESP authenticates too: write `{integrity.keyword}` for `{integrity.ah_keyword}`")
        return None
    transform = Transform(EspCipher.NULL, integrity, mode, SecurityProtocol.AH)
    _warn_weak(header, transform, context)
    return transform


def _problem(ciphers: Sequence[EspCipher], integrity: Sequence[EspIntegrity]) -> tuple[str, str] | None:
    """What is wrong with these words of ESP, each list one long at most, and the mend."""
    if not ciphers:
        return f"`{integrity[0].keyword}` needs a cipher beside it", "add `esp-aes 256`, or `esp-null` to authenticate without encryption"
    cipher = ciphers[0]
    if cipher.is_combined and integrity:
        return f"`{cipher.keyword}` authenticates by itself and takes no integrity algorithm", f"remove `{integrity[0].keyword}`"
    if not cipher.is_combined and not integrity:
        return f"`{cipher.keyword}` without integrity protects nothing that counts", "add `esp-sha256-hmac`, or use `esp-gcm`"
    return None


def _warn_weak(header: Statement, transform: Transform, context: Context) -> None:
    is_ah, integrity = transform.protocol is SecurityProtocol.AH, transform.integrity
    weak = [transform.cipher.keyword] if transform.cipher.is_legacy else []
    weak += [integrity.ah_keyword if is_ah else integrity.keyword] if integrity.is_legacy else []
    if weak:
        better = "`ah-sha256-hmac`" if is_ah else "`esp-gcm 256`, or `esp-aes 256 esp-sha256-hmac`"
        message = f"weak by today's measure: `{'`, `'.join(weak)}` (RFC 8221)"
        context.warn(header.where("transform"), message, f"if all members can: {better}")
    if not transform.cipher.hides:
        context.warn(header.where("transform"), "this transform set authenticates and does not encrypt")


def _profile(section: Section, header: Statement, context: Context) -> Profile:
    name = header.value("name")
    chosen = section.statement("set transform-set")
    sets: list[TransformSet] = []
    for wanted in chosen.all("name") if chosen else ():
        found = context.transform_sets.get(wanted)
        if found is not None:
            sets.append(found)
        elif chosen is not None and wanted not in context.names("crypto ipsec transform-set"):
            message = f"profile `{name}` names transform set `{wanted}`, which does not exist"
            context.warn(chosen.where("name"), message, nearest(wanted, context.names("crypto ipsec transform-set")))
            context.missing_sets.setdefault(name, wanted)
        if wanted in context.refused:
            context.refused.add(name)
    if chosen is not None and not sets and context.names("crypto ipsec transform-set").issuperset(chosen.all("name")):
        context.unusable_profiles.add(name)
    lifetime = section.statement("set security-association lifetime seconds") or context.root.statement(
        "crypto ipsec security-association lifetime seconds"
    )
    return Profile(
        name,
        tuple(sets),
        lifetime.value("seconds") if lifetime else DEFAULT_LIFETIME,
        replay_window(section.statement("set security-association replay")),
    )


def replay_window(statement: Statement | None) -> int | None:
    """Packets of an anti-replay window, 0 where it is disabled; None without a statement."""
    if statement is None or statement.negated:
        return None
    return 0 if "disable" in statement.keywords else int(statement.value("packets", REPLAY_WINDOW))
