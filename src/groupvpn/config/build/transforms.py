"""Transform sets and profiles from their statements, checked for combinations that protect nothing or contradict themselves."""

from groupvpn.config.build.context import Context
from groupvpn.config.section import Section, Statement
from groupvpn.crypto.registry import EspCipher, EspIntegrity
from groupvpn.ipsec.transform import Mode, Profile, Transform, TransformSet


def build_transforms(context: Context) -> None:
    """Fill `context.transform_sets` and `context.profiles`."""
    for section in context.root.sections("crypto ipsec transform-set"):
        header = section.header
        transform = _transform(section, header, context) if header else None
        if header and transform:
            name = header.value("name")
            context.transform_sets[name] = TransformSet(name, transform)
    for section in context.root.sections("crypto ipsec profile"):
        if section.header:
            context.profiles[section.header.value("name")] = _profile(section, section.header, context)


def _transform(section: Section, header: Statement, context: Context) -> Transform | None:
    """The transform, None (and a diagnostic) if the words make none that we can build."""
    given = header.all("transform")
    place = header.where("transform")
    ciphers = [item for item in given if isinstance(item, EspCipher)]
    integrity = [item for item in given if isinstance(item, EspIntegrity)]
    unknown = [item for item in given if isinstance(item, str)]
    if unknown:
        context.warn(place, f"`{unknown[0]}` is known and not supported: transform set `{header.value('name')}` is left out")
        return None
    if len(ciphers) > 1 or len(integrity) > 1:
        context.error(place, "a transform set has one cipher and one integrity algorithm", "make a second transform set")
        return None
    cipher = ciphers[0] if ciphers else EspCipher.NULL
    chosen = integrity[0] if integrity else EspIntegrity.NONE
    if cipher.icv_length and integrity:
        context.error(place, f"`{cipher.keyword}` authenticates by itself and takes no integrity algorithm", f"remove `{chosen.keyword}`")
        return None
    if not cipher.icv_length and not integrity:
        context.error(
            place, f"`{cipher.keyword}` without integrity protects nothing that counts", "add `esp-sha256-hmac`, or use `esp-gcm`"
        )
        return None
    _warn_weak(header, cipher, chosen, context)
    mode = section.statement("mode")
    return Transform(cipher, chosen, mode.value("mode") if mode else Mode.TUNNEL)


def _warn_weak(header: Statement, cipher: EspCipher, integrity: EspIntegrity, context: Context) -> None:
    weak = [item.keyword for item in (cipher, integrity) if item.is_legacy]
    if weak:
        hint = "if all members can: `esp-gcm 256`, or `esp-aes 256 esp-sha256-hmac`"
        context.warn(header.where("transform"), f"weak by today's measure: `{'`, `'.join(weak)}` (RFC 8221)", hint)
    if cipher is EspCipher.NULL:
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
            context.warn(chosen.where("name"), f"profile `{name}` names transform set `{wanted}`, which does not exist")
    if chosen is not None and not sets and context.names("crypto ipsec transform-set").issuperset(chosen.all("name")):
        context.unusable_profiles.add(name)
    lifetime = section.statement("set security-association lifetime seconds")
    return Profile(name, tuple(sets), lifetime.value("seconds") if lifetime else Profile(name, ()).lifetime)
