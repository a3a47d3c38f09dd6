"""The lines that the node itself writes: its start, its files, its addresses, its data plane, and what the engine tells.

A mnemonic may have several rows here, so each row has a name of its own. Where the manuals print a line (RECDV_PKT_INV_SPI and what
stands beside it) its words are the routers'; the others are ours.
"""

from groupvpn.reports import Message, Severity

_CRITICAL, _ERROR, _WARNING, _NOTICE, _INFO, _DEBUG = (
    Severity.CRITICAL,
    Severity.ERROR,
    Severity.WARNING,
    Severity.NOTICE,
    Severity.INFORMATIONAL,
    Severity.DEBUG,
)


def _system(mnemonic: str, severity: Severity, template: str) -> Message:
    return Message(mnemonic, severity, template, "SYS")


def _crypto(mnemonic: str, severity: Severity, template: str) -> Message:
    return Message(mnemonic, severity, template, "CRYPTO")


# The process and its configuration.
STARTS = _system("RESTART", _NOTICE, "groupvpn {version} starts, {role}")
START_FAILED = _system("START_FAILED", _CRITICAL, "{error}")
CONFIGURED = _system("CONFIG_I", _NOTICE, "Configured from {source}")
CONFIGURED_THE_SAME = _system("CONFIG_I", _INFO, "Configured from {source}: no change")
CONFIG_CHANGED = _system("CONFIG_CHANGED", _INFO, "{change}")
CONFIG_CHANGED_MORE = _system("CONFIG_CHANGED", _INFO, "and {count} more changes")
CONFIG_WARNING = _system("CONFIG", _WARNING, "{remark}")
CONFIG_NOTICE = _system("CONFIG", _INFO, "{remark}")
NO_GROUP = _system("CONFIG", _WARNING, "nothing to do: the configuration serves and joins no group, and no interface has keys set by hand")
CONFIG_REJECTED = _system("CONFIG_REJECTED", _ERROR, "{reason}")
BUG = _system("BUG", _CRITICAL, "internal error: {bug}; this one event was dropped and the node goes on. Please report this line{more}")
TRACEBACK = _system("BUG", _DEBUG, "{line}")
CALL = _system("CALL", _DEBUG, "{name}")
LOG_LOST = _system("LOG_LOST", _WARNING, "{count} lines before this one are not here, since nobody read them; `show logging` has the last")
DEBUG_ISAKMP = _crypto("DEBUG", _DEBUG, "{datagram}")
DEBUG_GDOI = Message("DEBUG", _DEBUG, "{datagram}", "GDOI")

# What it keeps on the disk.
STATE_UNWRITTEN = _system(
    "STATE_UNWRITTEN",
    _CRITICAL,
    "{error}: registrations stay unanswered and no rekey is sent until it can be written. Free space, or make the directory writable",
)
STATE_WRITTEN = _system("STATE_WRITTEN", _NOTICE, "{file} is written again")
STATE_DAMAGED = _system("STATE_DAMAGED", _WARNING, "{problem}; it is kept as {copy}, and {therefore}")
KEYS_LEFT = _system("KEYS_LEFT", _WARNING, "{error}; it holds keys of groups that are served no more: remove it")
KEY_ZEROIZED = _crypto("KEY_ZEROIZED", _NOTICE, "RSA key pair {label} was removed by command")
KEY_ZEROIZED_IN_USE = _crypto(
    "KEY_ZEROIZED",
    _WARNING,
    "RSA key pair {label} was removed by command. It signed the rekeys of group {groups}: members take none under another key pair until "
    "they have registered again",
)
CLOCK_BEHIND = _system(
    "CLOCK",
    _WARNING,
    "The clock is {seconds:.0f} s behind {file}: how long the key server was down is not known, and its groups get new keys",
)
CLOCK_UNSET = _system(
    "CLOCK",
    _WARNING,
    "Nothing has set the clock since the machine booted: if it is behind, members refuse rekeys of groups with time windows",
)
IN_FORCE_UNWRITTEN = _system("STATE_NOTE", _WARNING, "{error}; should this node be killed, its next start {consequence}")
IN_FORCE_WRITTEN = _system("STATE_WRITTEN", _NOTICE, "{file} says again what is in force")
IN_FORCE_DAMAGED = _system("STATE_DAMAGED", _WARNING, "{file} cannot be used ({error!r}): what the last run protected is not known")
LOCATION_UNWRITTEN = _system("STATE_NOTE", _WARNING, "{error}; `groupvpn clean` will not know where this node ran")
KEY_TABLE = _system(
    "KEY_TABLE", _WARNING, "keys of ISAKMP SAs are written to a file for debugging: whoever reads it can read the group's keys"
)
KEY_TABLE_LOST = _system("KEY_TABLE", _WARNING, "{problem}")

# Addresses and sockets.
INTERFACE = _system("INTERFACE", _WARNING, "{problem}")
INTERFACE_WAITS = _system("INTERFACE", _WARNING, "{interface}: no address yet; group {group} is registered when {device} has one")
KEYS_WAIT = _system(
    "INTERFACE", _WARNING, "{interface}: no address yet; what crypto map {map} protects with keys set by hand is dropped until there is one"
)
OWN_PEER = _system(
    "INTERFACE",
    _WARNING,
    "{interface}: {peer}, the peer of crypto map {map} {sequence}, is the address of this node; what it protects is dropped",
)
ADDRESSES_UNKNOWN = _system("INTERFACE", _WARNING, "{error}; addresses are not followed until that works")
LOOPBACK = _system("LOOPBACK", _WARNING, "{news}")
LOOPBACK_LEFT = _system("LOOPBACK", _WARNING, "{address} is ours and cannot be removed; `ip address delete {address} dev lo` does it")
MULTICAST = _system("MULTICAST", _WARNING, "{problem}")
SENDING = _system("SENDING", _WARNING, "{problem}")

# The data plane, and what a killed run has left of it.
FAULT = _crypto("DATAPLANE", _ERROR, "{fault}")
NO_CRYPTO_ENGINE = Message("GM_NO_CRYPT_ENGINE", _ERROR, "{fault}", "GDOI")
FAULTS_MENDED = _crypto("DATAPLANE", _NOTICE, "all faults are mended")
RULES_RESTORED = _crypto(
    "DATAPLANE",
    _WARNING,
    "{device}: somebody changed or removed our rules; they are put back; packets may have passed in the clear",
)
LEFT_BEHIND = _crypto("DATAPLANE", _ERROR, "{device}: {problem}; `{mend}` removes what is left")
FAIL_CLOSE = _crypto("FAIL_CLOSE", _WARNING, "{device} goes on dropping what must be protected; `{mend}` opens it")
POLICY_KEPT = _crypto(
    "POLICY_KEPT",
    _WARNING,
    "the last run was killed: {what} is dropped until each has registered. To let it pass in the clear now: clear crypto gdoi",
)
POLICY_LOST = _crypto(
    "POLICY_LOST",
    _WARNING,
    "{devices}: closed by another node, which is gone; what that one protected is not known here and holds no more",
)
POLICY_LIFTED = _crypto("POLICY_LIFTED", _WARNING, "{device} is in the clear again: nothing of this configuration protects it")

SPI_CLASH = _crypto(
    "SPI_CLASH",
    _ERROR,
    "{interface}: group {group} has an SA with SPI 0x{spi:X}, which is that of an SA of {owner} too. "
    "What group {group} protects with it is dropped there until its key server has sent another one",
)

# What the engine tells.
INVALID_SPI = _crypto("RECDV_PKT_INV_SPI", _WARNING, "decaps: rec'd IPSEC packet has invalid spi for {packet}")
REPLAYED = _crypto("PKT_REPLAY_ERR", _WARNING, "decrypt: replay check failed connection id={connection}, {packet}")
REPLAYED_BEFORE = _crypto(
    "PKT_REPLAY_ERR",
    _WARNING,
    "decrypt: replay check failed connection id={connection}: packet is from before this SA began to remember: {times}, {packet}",
)
REPLAY_FAILED = Message("REPLAY_FAILED", _ERROR, "Packet is {how} and fails PST check: {times}, {packet}", "GDOI")
BAD_ICV = _crypto("RECVD_PKT_MAC_ERR", _WARNING, "decrypt: mac verify failed, {packet}")
BAD_ADDRESSES = _crypto("RECVD_PKT_INV_IDENTITY", _WARNING, "decaps: addresses inside are not those outside, {packet}")
NONCES = _crypto("NONCES", _WARNING, "SA 0x{spi:X} has no sequence numbers left and sends nothing more")
SA_LIFETIME = _crypto("SA_LIFETIME", _WARNING, "SA 0x{spi:X} has reached its {limit}: it neither sends nor receives")

MESSAGES = tuple(value for value in tuple(globals().values()) if isinstance(value, Message))
"""All of them, in this order."""
