"""The syslog messages of phase 1: mnemonic, severity, text (`groupvpn.reports`).

Mnemonics are the routers' where the manuals print one (IKMP_MODE_FAILURE, ISAKMP_ON_OFF); the texts of the others are ours.
"""

from groupvpn.reports import Catalogue, Message, Severity

_WARNING, _NOTICE, _INFO = Severity.WARNING, Severity.NOTICE, Severity.INFORMATIONAL


def _row(mnemonic: str, severity: Severity, template: str) -> Message:
    return Message(mnemonic, severity, template, "CRYPTO")


_TABLE = (
    _row("IKMP_MODE_FAILURE", _INFO, "Processing of {mode} failed with peer at {peer}"),
    _row("IKMP_AUTH_FAIL", _WARNING, "The peer at {peer} did not prove its key in {mode}; the pre-shared keys probably differ"),
    _row("IKMP_NO_PROPOSAL", _WARNING, "None of the policies that {peer} offers in {mode} matches one of ours"),
    _row("IKMP_NO_KEY", _WARNING, "No pre-shared key is configured for the peer at {peer}"),
    _row("IKMP_PEER_NOTIFY", _NOTICE, "Unauthenticated notify {notify} from {peer}: compare policies and pre-shared keys"),
    _row("IKMP_NO_ANSWER", _NOTICE, "No answer from {peer} in {mode}: does it run, and does UDP 848 pass?"),
    _row("IKMP_HALF_OPEN", _WARNING, "Too many half-open exchanges: the oldest with {peer} makes room. See show crypto isakmp sa"),
    _row("IKMP_SA_UP", _INFO, "ISAKMP SA with {peer} is up, identity {identity}, {mode}"),
    _row("IKMP_SA_DOWN", _INFO, "ISAKMP SA with {peer} is gone: {reason}"),
    _row("IKMP_NAT", _INFO, "A NAT sits between here and {peer}; ISAKMP moves to port 4500"),
)

MESSAGES = Catalogue(*_TABLE)
"""Every message that phase 1 can send, by mnemonic."""
report = MESSAGES.report
