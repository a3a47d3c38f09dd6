"""The RSA pair that signs the rekeys under a KEK, and why there may be none. Pairs come and go while a group lives."""

from collections.abc import Callable
from enum import Enum

from groupvpn.crypto.rsa import RsaPrivateKey
from groupvpn.gdoi.group_keys import RekeyKey

SignerLookup = Callable[[str], RsaPrivateKey | None]
"""Finds the private key of the pair with a label; None where there is none."""


class SignerFault(Enum):
    """Why nothing can be signed under a KEK; the values are the mnemonics that say so."""

    MISSING = "KS_NO_RSA_KEYS"
    """There is no pair of its label: one may be made or imported yet."""
    CHANGED = "KS_RSA_KEY_CHANGED"
    """The pair of its label is another one by now, whose signatures the members that hold the KEK do not take."""


def signer_of(kek: RekeyKey, signers: SignerLookup) -> RsaPrivateKey | SignerFault:
    """The pair with whose public half members verify what comes under `kek`."""
    signer = signers(kek.key_label)
    if signer is None:
        return SignerFault.MISSING
    return signer if signer.public.der == kek.public_key else SignerFault.CHANGED
