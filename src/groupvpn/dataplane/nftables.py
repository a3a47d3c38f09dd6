"""What we ask nft(8): load a ruleset, read counters, find and remove tables of ours."""

import json
import re
from typing import Any

from groupvpn.dataplane.programs import ProgramError, run
from groupvpn.dataplane.ruleset import TABLE_PREFIX

_OWNER = re.compile(r'comment "groupvpn node ([^"]*)"')


def load(text: str) -> None:
    """Apply `text` in one transaction: all of it or none; raises `programs.ProgramError`."""
    run(["nft", "-f", "-"], text)


def counters(table: str) -> dict[str, int]:
    """Packets of the named counters of a table; raises `programs.ProgramError` if there is no such table."""
    items = _items(["nft", "-j", "list", "counters", "table", "netdev", table])
    return {item["counter"]["name"]: int(item["counter"]["packets"]) for item in items if "counter" in item}


def tables() -> tuple[str, ...]:
    """Names of the tables of ours in this network namespace, whoever made them; none where nft is not installed."""
    try:
        items = _items(["nft", "-j", "list", "tables", "netdev"])
    except ProgramError:
        return ()
    names = (str(item["table"]["name"]) for item in items if "table" in item)
    return tuple(name for name in names if name.startswith(TABLE_PREFIX))


def listing(table: str) -> str:
    """A table as text, without counters' values and set elements; empty if it does not exist."""
    try:
        return run(["nft", "-s", "-t", "list", "table", "netdev", table])
    except ProgramError:
        return ""


def owner(table: str) -> str | None:
    """The node that made a table, as the table's comment says."""
    found = _OWNER.search(run(["nft", "-t", "list", "table", "netdev", table]))
    return found.group(1) if found else None


def taps(table: str) -> frozenset[str]:
    """The TAPs to which a table forwards, by name; a device that is gone is not among them."""
    return frozenset(re.findall(r'fwd to "([^"]+)"', run(["nft", "-t", "list", "table", "netdev", table])))


def delete(table: str) -> None:
    """Remove a table of ours; it is no error if it is gone already."""
    run(["nft", "-f", "-"], f"add table netdev {table}\ndelete table netdev {table}\n")


def _items(command: list[str]) -> list[dict[str, Any]]:
    document: dict[str, list[dict[str, Any]]] = json.loads(run(command))
    return document["nftables"]
