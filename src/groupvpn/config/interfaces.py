"""Interface names: canonical spelling, abbreviations, and which Linux device stands behind a name.

The rule is written down in `docs/decisions/interface-names.md`. In short, the first of these that speaks wins: the mapping that the
caller gives (`GigabitEthernet0/0=eth0`), a comment `! linux-device eth0` in the interface's section, `lo` for a loopback, and last the
short name (`gi0-0`), which a Linux device can carry as an alternative name.
"""

import re
from dataclasses import dataclass
from difflib import get_close_matches

TYPES: dict[str, str] = {
    "Ethernet": "et",
    "FastEthernet": "fa",
    "GigabitEthernet": "gi",
    "TwoGigabitEthernet": "tw",
    "TenGigabitEthernet": "te",
    "TwentyFiveGigE": "twe",
    "FortyGigabitEthernet": "fo",
    "HundredGigE": "hu",
    "Loopback": "lo",
    "Vlan": "vl",
    "Serial": "se",
    "Tunnel": "tu",
    "Port-channel": "po",
    "Null": "nu",
    "ATM": "at",
    "Async": "as",
    "BVI": "bv",
    "CDMA-1x": "cd",
    "CTunnel": "ct",
    "Cellular": "ce",
    "AppGigabitEthernet": "ap",
    "BDI": "bd",
    "Dialer": "di",
    "Embedded-Service-Engine": "em",
    "Lex": "le",
    "MFR": "mf",
    "Multilink": "mu",
    "POS": "pos",
    "Vif": "vif",
    "Virtual-PPP": "vp",
    "VirtualPortGroup": "vpg",
    "Virtual-Template": "vt",
    "Virtual-TokenRing": "vk",
}
"""Interface types of routers, with the letters that begin their short names."""

LOOPBACK_DEVICE = "lo"

_UNIT = re.compile(r"\d{1,10}(/\d{1,10}){0,3}(\.\d{1,10})?(:\d{1,10})?\Z", re.ASCII)
_LINUX_NAME = re.compile(r"[!-.0-~]{1,127}\Z", re.ASCII)
_SHORT_NAMES = {short: name for name, short in TYPES.items()} | {"e": "Ethernet", "b": "BVI"}


class InterfaceNameError(ValueError):
    """A word that names no interface; its text says why."""


@dataclass(frozen=True, slots=True, order=True)
class InterfaceName:
    """A canonical interface name such as `GigabitEthernet0/1`: its type and its unit."""

    type: str
    unit: str

    def __str__(self) -> str:
        return f"{self.type}{self.unit}"

    @property
    def is_loopback(self) -> bool:
        """Whether it is a loopback, which has no Linux device of its own."""
        return self.type == "Loopback"

    @property
    def short(self) -> str:
        """The short name a Linux device can carry: letters of the type, then the unit with `-` for `/`, as in `gi0-1.100`."""
        return TYPES[self.type] + self.unit.replace("/", "-").replace(":", "_")

    @classmethod
    def parse(cls, text: str) -> "InterfaceName":
        """The interface that `text` names, abbreviated or not, in any case: `gi0/1`, `GigabitEthernet0/1`, `loopback0`."""
        letters = re.match(r"[A-Za-z][A-Za-z-]*(?:1x(?=\d))?", text, re.ASCII)
        if letters is None:
            raise InterfaceNameError(f"`{text}` is not an interface name; one looks like GigabitEthernet0/0")
        return cls(interface_type(letters.group()), interface_unit(text[letters.end() :]))


def interface_type(text: str) -> str:
    """The canonical type that `text` abbreviates."""
    wanted = text.lower()
    if wanted in _SHORT_NAMES:
        return _SHORT_NAMES[wanted]
    found = [name for name in TYPES if name.lower().startswith(wanted)]
    exact = [name for name in found if name.lower() == wanted]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if found:
        raise InterfaceNameError(f"`{text}` could be {' or '.join(found)}")
    close = get_close_matches(wanted[:40], [name.lower() for name in TYPES], n=1)
    meant = next((f"; did you mean `{name}`?" for name in TYPES if close == [name.lower()]), "")
    raise InterfaceNameError(f"`{text}` is not a type of interface{meant}")


def interface_unit(text: str) -> str:
    """`text` if it is a unit such as `0`, `0/1` or `0/0/1.100`."""
    if not _UNIT.match(text):
        raise InterfaceNameError(f"`{text}` is not an interface number; one looks like 0, 0/1 or 0/0/1.100")
    return text


def is_linux_name(text: str) -> bool:
    """Whether Linux accepts `text` as the name (or alternative name) of a device."""
    return bool(_LINUX_NAME.match(text)) and text not in (".", "..")


def default_device(name: InterfaceName) -> str:
    """The Linux device behind `name` where neither the caller nor the configuration names one."""
    return LOOPBACK_DEVICE if name.is_loopback else name.short
