"""`crypto key generate|zeroize|export|import rsa` and `show crypto key mypubkey rsa`."""

import os
import re
from datetime import UTC, datetime

from groupvpn.config.arguments import Name, Number, OneOf, SecretWord
from groupvpn.console.exec import ExecCommand, Request
from groupvpn.crypto.pem import KEYWORDS
from groupvpn.crypto.rsa import MODULUS_BITS, RsaKeyError
from groupvpn.crypto.secret import Secret
from groupvpn.node.background import in_thread
from groupvpn.node.control import CommandError
from groupvpn.node.keystore import LabelTakenError
from groupvpn.node.router import Router
from groupvpn.node.state import StateError
from groupvpn.pki.rsa_keys import DEFAULT_MODULUS_BITS, KeyPair, KeyPairError, generate, import_pem

_LABEL = Name("label of the key pair", 100, "LABEL")
_MODULUS = Number(MODULUS_BITS.start, MODULUS_BITS.stop - 1, "bits of the modulus")
_CIPHER = OneOf({keyword: keyword for keyword in KEYWORDS}, "cipher that protects the private key")
_PASSPHRASE = SecretWord("passphrase that protects the private key, 8 characters or more")
_OCTETS_PER_WORD, _WORDS_PER_LINE = 4, 8
_BLOCK = re.compile(r"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.DOTALL)


def default_label(router: Router) -> str:
    """The label of a key that was given none: the host's name, with its domain if that is configured."""
    configuration = router.configuration
    return f"{configuration.hostname}.{configuration.domain}" if configuration.domain else configuration.hostname


def _existing(router: Router, label: str) -> KeyPair:
    pair = router.keys.get(label)
    if pair is None:
        raise CommandError(f"% No key pair is labelled {label}; there are: {', '.join(router.keys.labels()) or 'none'}")
    return pair


def _refuse_taken(router: Router, label: str) -> None:
    """Before work is done that would be in vain; whoever comes first while another one works has the label (`_store`)."""
    try:
        router.keys.check_free(label)
    except LabelTakenError as error:
        raise CommandError(f"% {error}") from error


def _store(router: Router, pair: KeyPair) -> None:
    try:
        router.keys.add(pair)
    except (LabelTakenError, StateError) as error:
        raise CommandError(f"% {error}") from error
    router.operations.keys_changed()


async def _generate(router: Router, request: Request) -> str:
    """In a thread of its own: finding the primes of a long key takes seconds."""
    label = request.name("label") or default_label(router)
    bits = request.number("modulus", DEFAULT_MODULUS_BITS)
    _refuse_taken(router, label)
    try:
        exportable = "exportable" in request.keywords
        pair = await in_thread(lambda: generate(label, datetime.now(UTC), modulus_bits=bits, exportable=exportable))
    except KeyPairError as error:
        raise CommandError(f"% {error}") from error
    _store(router, pair)
    lines = [f"The name for the keys will be: {label}", f"% The key modulus size is {bits} bits"]
    lines.append(f"% Generating {bits} bit RSA keys, keys will be {'' if pair.exportable else 'non-'}exportable... [OK]")
    if pair.is_short:
        lines.append(f"% Warning: {bits} bits can be broken by those who have the means; use {DEFAULT_MODULUS_BITS} or more")
    return "\n".join(lines)


def _zeroize(router: Router, request: Request) -> str:
    label = request.name("label")
    doomed = [label] if label else router.keys.labels()
    removed = [name for name in doomed if router.keys.remove(name)]
    if not removed:
        raise CommandError(f"% No key pair {'is labelled ' + label if label else 'is there'}")
    signed = router.operations.keys_removed(removed)
    return "\n".join(line for name in removed for line in _told_of_removal(name, ", ".join(signed.get(name, ()))))


def _told_of_removal(label: str, groups: str) -> list[str]:
    said = f"% Key pair {label} has been removed"
    warning = (
        f"% Warning: it signed the rekeys of group {groups}. Their members get none until `crypto key generate rsa label {label}`, and "
        "take none under another key pair until they have registered again"
    )
    return [said, warning] if groups else [said]


def _passphrase(request: Request) -> Secret:
    """The last word of the command, or else the first line of its input, where other users of the machine do not see it."""
    typed = request.get("passphrase")
    if isinstance(typed, Secret):
        return typed
    first = request.text.partition("\n")[0].rstrip("\r")
    if not first or first.startswith("-----BEGIN"):
        hint = "give it as the first line of standard input of `groupvpn exec --input`, or as the last word, which `ps` shows"
        raise CommandError(f"% A passphrase is needed: {hint}")
    return Secret(first.encode())


def _export(router: Router, request: Request) -> str:
    pair = _existing(router, str(request.name("label")))
    try:
        public, private = pair.export_pem(str(request.get("cipher")), _passphrase(request), os.urandom)
    except KeyPairError as error:
        raise CommandError(f"% {error}") from error
    lines = [f"% Key name: {pair.label}", f"   Usage: {pair.usage.value}", "   Key data:"]
    return "\n".join([*lines, public.strip(), private.strip()])


def _import(router: Router, request: Request) -> str:
    label, passphrase = str(request.name("label")), _passphrase(request)
    _refuse_taken(router, label)
    blocks = {found.group(1): found.group() + "\n" for found in _BLOCK.finditer(request.text)}
    private = next((text for kind, text in blocks.items() if kind.endswith("PRIVATE KEY")), None)
    if private is None:
        raise CommandError("% No private key was pasted: give the PEM text of the export (public and private part) as input of the command")
    try:
        pair = import_pem(
            label,
            private,
            passphrase,
            datetime.now(UTC),
            public_text=blocks.get("PUBLIC KEY"),
            exportable="exportable" in request.keywords,
        )
    except (KeyPairError, RsaKeyError) as error:
        raise CommandError(f"% {error}") from error
    _store(router, pair)
    return "% Key pair import succeeded."


def _show(router: Router, request: Request) -> str:
    label = request.name("label")
    pairs = [_existing(router, label)] if label else list(router.keys)
    return "\n".join(_described(pair) for pair in pairs)


def _described(pair: KeyPair) -> str:
    created = pair.created.astimezone(UTC)
    octets = pair.public.der.hex().upper()
    words = [octets[start : start + 2 * _OCTETS_PER_WORD] for start in range(0, len(octets), 2 * _OCTETS_PER_WORD)]
    rows = [" ".join(words[start : start + _WORDS_PER_LINE]) for start in range(0, len(words), _WORDS_PER_LINE)]
    head = [
        f"% Key pair was generated at: {created:%H:%M:%S} UTC {created:%b} {created.day} {created.year}",
        f"Key name: {pair.label}",
        "Key type: RSA KEYS",
        " Storage Device: state directory",
        f" Usage: {pair.usage.value}",
        f" Key is {'' if pair.exportable else 'not '}exportable.",
        " Key Data:",
    ]
    return "\n".join([*head, *(f"  {row}" for row in rows)])


COMMANDS = (
    ExecCommand(
        "crypto key generate rsa [{general-keys | label <label> | modulus <modulus> | exportable} ...]",
        "Make an RSA key pair",
        _generate,
        {"label": _LABEL, "modulus": _MODULUS},
        {
            "general-keys": "A pair for all purposes, as every pair is",
            "label": "Its label; the name of the host unless given",
            "modulus": f"Its size; {DEFAULT_MODULUS_BITS} bits unless given",
            "exportable": "It may be exported; not unless given",
        },
    ),
    ExecCommand("crypto key zeroize rsa [<label>]", "Remove an RSA key pair, or all", _zeroize, {"label": _LABEL}),
    ExecCommand(
        "crypto key export rsa <label> pem terminal <cipher> [<passphrase>]",
        "Print an exportable key pair, the private key encrypted",
        _export,
        {"label": _LABEL, "cipher": _CIPHER, "passphrase": _PASSPHRASE},
        {
            "3des": "Triple DES",
            "aes": "AES with a key of 128 bits, or as many as follow",
            "des": "DES, which is easily broken",
            "192": "A key of 192 bits",
            "256": "A key of 256 bits",
        },
    ),
    ExecCommand(
        "crypto key import rsa <label> [pem] [exportable] terminal [<passphrase>]",
        "Take in a key pair that another node has exported; its PEM text is the input of the command",
        _import,
        {"label": _LABEL, "passphrase": _PASSPHRASE},
        {
            "pem": "As PEM, which every pair is",
            "exportable": "It may be exported again; not unless given",
            "terminal": "From standard input",
        },
    ),
    ExecCommand("show crypto key mypubkey rsa [<label>]", "Public keys of this node", _show, {"label": _LABEL}),
)
