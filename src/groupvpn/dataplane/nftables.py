"""What we ask nft(8): load a ruleset, read counters, find and remove tables of ours."""

import contextlib
import json
import re
from collections import Counter
from collections.abc import Collection
from typing import Any

from groupvpn.dataplane.programs import ProgramError, run
from groupvpn.dataplane.steering import OWNER, SERVED, TABLE_PREFIX

FAMILIES = ("netdev", "inet")
"""Of a table, and of its guard, which has the same name."""
_NO_TABLE = "Error: No such file or directory"
"""How nft says that there is no such table."""
_OWNER = re.compile(rf'comment "{OWNER} ([^"]*)"')
_TABLE = re.compile(r"(?m)^table (\w+) (\S+)$")
_TAP = re.compile(rf'fwd to "([^"]+)"|comment "{SERVED} ([^"]+)"')


def load(text: str) -> None:
    """Apply `text` in one transaction: all of it or none; raises `programs.ProgramError`."""
    run(["nft", "-f", "-"], text)


def counters(table: str, families: Collection[str] = FAMILIES) -> dict[str, int]:
    """Packets of the named counters of a table and its guard, and `outbound_passed` and `inbound_passed`: what the table's hooks let pass,
    entries and all.

    Raises `programs.ProgramError` if there is no such table, or nft says something else than what it has.
    """
    try:
        return _counters(table, families)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ProgramError("nft", f"lists no counters: {type(error).__name__}: {error}") from error


def _counters(table: str, families: Collection[str]) -> dict[str, int]:
    items = _items(["nft", "-j", "-t", "list", "table", "netdev", table]) if "netdev" in families else []
    items += _items(["nft", "-j", "list", "counters", "table", "inet", table]) if "inet" in families else []
    found = {item["counter"]["name"]: int(item["counter"]["packets"]) for item in items if "counter" in item}
    for rule in (item["rule"] for item in items if "rule" in item):
        way = _way(rule["chain"])
        if way and any("accept" in statement for statement in rule["expr"]):
            name = f"{way}_passed"
            found[name] = found.get(name, 0) + sum(map(_counted, rule["expr"]))
    return found


class Tally:
    """What a table has counted since this was made: it goes on when the table, or a counter of it, is made anew."""

    def __init__(self, table: str, families: Collection[str] = FAMILIES) -> None:
        self._table, self._families = table, families
        self._past: Counter[str] = Counter()
        self._last: dict[str, int] = {}
        self.is_current = True
        """Whether nft could say what was asked last."""

    def read(self) -> dict[str, int]:
        """Packets by counter; what was read last where there is no such table just now, or nft cannot say."""
        self.is_current = False
        with contextlib.suppress(ProgramError):
            now = counters(self._table, self._families)
            self._past.update({name: packets for name, packets in self._last.items() if now.get(name, 0) < packets})
            self._last = now
            self.is_current = True
        return self.total()

    def total(self) -> dict[str, int]:
        """The same as it was read last."""
        total = Counter(self._past)
        total.update(self._last)
        return dict(total)

    def begin_anew(self) -> None:
        """The table has been made anew since it was read."""
        self._past.update(self._last)
        self._last = {}


def _way(chain: str) -> str:
    """Which way the packets go that a chain lets pass; nothing for those that have been counted by the engine."""
    if chain.startswith("outbound"):
        return "outbound"
    return "inbound" if chain.startswith(("inbound", "esp_fragments")) else ""


def _counted(statement: dict[str, Any]) -> int:
    counter = statement.get("counter")
    return int(counter["packets"]) if isinstance(counter, dict) else 0


def tables() -> tuple[str, ...]:
    """Names of our tables in this network namespace, whoever made them, and of guards that stand alone; none where there is no nft."""
    try:
        listed = run(["nft", "list", "tables"])
    except ProgramError:
        return ()
    return tuple(dict.fromkeys(name for family, name in _TABLE.findall(listed) if family in FAMILIES and name.startswith(TABLE_PREFIX)))


def listing(table: str, families: Collection[str] = FAMILIES) -> str:
    """A table and its guard as text, without counters' values and set elements; empty if one of them does not exist.

    Raises `programs.ProgramError` if nft does not say so: then nobody knows.
    """
    try:
        return "".join(run(["nft", "-s", "-t", "list", "table", family, table]) for family in families)
    except ProgramError as error:
        if error.problem.startswith(_NO_TABLE):
            return ""
        raise


def _either(table: str) -> str:
    """What there is of a table and its guard."""
    return "".join(listing(table, [family]) for family in FAMILIES)


def owner(table: str) -> str | None:
    """The node that made a table or its guard, as a comment says."""
    found = _OWNER.search(_either(table))
    return found.group(1) if found else None


def taps(table: str) -> frozenset[str]:
    """The TAPs to which a table forwards, and that for which its guard stands, by name."""
    return frozenset(filter(None, (name for pair in _TAP.findall(_either(table)) for name in pair)))


def delete(table: str, families: Collection[str] = FAMILIES) -> None:
    """Remove a table of ours and its guard; it is no error if they are gone already."""
    run(["nft", "-f", "-"], "".join(f"add table {family} {table}\ndelete table {family} {table}\n" for family in families))


def _items(command: list[str]) -> list[dict[str, Any]]:
    document: dict[str, list[dict[str, Any]]] = json.loads(run(command))
    return document["nftables"]
