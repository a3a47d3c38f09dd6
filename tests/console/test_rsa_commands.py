"""`crypto key … rsa`: made, shown, exported, imported elsewhere, removed; on key stores in real state directories."""

import asyncio
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from groupvpn.config import Configuration, parse
from groupvpn.console import rsa
from groupvpn.console.exec import Exec
from groupvpn.node.control import CommandError
from groupvpn.node.keystore import KeyStore
from groupvpn.node.state import StateDirectory, StateError

CONSOLE = Exec(rsa.COMMANDS)
PASSPHRASE = "open-sesame"


def _configuration() -> Configuration:
    configuration = parse("hostname ks1\nip domain name example.com\n").configuration
    assert configuration is not None
    return configuration


class Node(SimpleNamespace):
    """What the commands see of a router: its configuration, its keys, and being told that keys have changed."""

    def __init__(self, state: StateDirectory) -> None:
        super().__init__(configuration=_configuration(), keys=KeyStore(state), state=state, changes=0)
        self.operations = SimpleNamespace(keys_changed=self._keys_changed, keys_removed=self._keys_removed)

    def _keys_changed(self) -> None:
        self.changes += 1

    def _keys_removed(self, labels: list[str]) -> dict[str, tuple[str, ...]]:
        self.changes += 1
        return {}

    def type(self, line: str, text: str = "") -> str:
        router: Any = self
        return asyncio.run(CONSOLE.run(router, line, text))


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Node]]:
    states = [StateDirectory(name, tmp_path / name, run_root=tmp_path / "run") for name in ("ks1", "ks2")]
    yield [Node(state) for state in states]
    for state in states:
        state.close()


def test_a_key_is_made_shown_and_kept_over_a_restart(nodes: list[Node]) -> None:
    node = nodes[0]
    said = node.type("crypto key gen rsa gen label KEY modulus 2048")
    assert said.splitlines()[0] == "The name for the keys will be: KEY"
    assert "Generating 2048 bit RSA keys, keys will be non-exportable... [OK]" in said
    assert "Warning" not in said
    assert node.changes == 1
    file = node.state.path / "rsa/KEY.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    shown = node.type("show crypto key mypubkey rsa KEY")
    assert re.match(r"% Key pair was generated at: \d\d:\d\d:\d\d UTC \w{3} \d+ \d{4}\nKey name: KEY\n", shown)
    assert " Usage: General Purpose Key\n Key is not exportable.\n Key Data:\n  30820122 300D0609 2A864886" in shown
    again = KeyStore(node.state)
    pair, first = again.get("KEY"), node.keys.get("KEY")
    assert pair is not None
    assert pair.public == first.public


def test_short_keys_work_with_a_warning(nodes: list[Node]) -> None:
    assert "Warning: 1024 bits" in nodes[0].type("crypto key generate rsa modulus 1024 label OLD")
    with pytest.raises(CommandError, match="outside 1024 to 4096"):
        nodes[0].type("crypto key generate rsa label TINY modulus 512")


def test_the_default_label_is_the_host_and_its_domain(nodes: list[Node]) -> None:
    nodes[0].type("crypto key generate rsa")
    assert nodes[0].keys.labels() == ["ks1.example.com"]


@pytest.mark.parametrize("cipher", ["3des", "aes", "aes 256"])
def test_a_key_travels_to_another_key_server(nodes: list[Node], cipher: str) -> None:
    nodes[0].type("crypto key generate rsa label GROUP modulus 2048 exportable")
    exported = nodes[0].type(f"crypto key export rsa GROUP pem terminal {cipher} {PASSPHRASE}")
    assert exported.startswith("% Key name: GROUP\n   Usage: General Purpose Key\n   Key data:\n-----BEGIN PUBLIC KEY-----")
    assert "ENCRYPTED" in exported
    assert nodes[1].type(f"crypto key import rsa GROUP pem terminal {PASSPHRASE}", f"{exported}\nquit\n") == "% Key pair import succeeded."
    one, other = nodes[0].keys.get("GROUP"), nodes[1].keys.get("GROUP")
    assert one.public == other.public
    assert not other.exportable


def test_the_passphrase_may_be_the_first_line_of_the_input(nodes: list[Node]) -> None:
    """Where no other user of the machine sees it."""
    nodes[0].type("crypto key generate rsa label GROUP modulus 1024 exportable")
    exported = nodes[0].type("crypto key export rsa GROUP pem terminal aes", f"{PASSPHRASE}\r\n")
    assert "ENCRYPTED" in exported
    with pytest.raises(CommandError, match="A passphrase is needed: give it as the first line of standard input"):
        nodes[1].type("crypto key import rsa GROUP terminal", exported[exported.index("-----BEGIN") :])
    with pytest.raises(CommandError, match=r"A passphrase is needed: .* of `groupvpn exec --input`"):
        nodes[0].type("crypto key export rsa GROUP pem terminal aes")
    assert nodes[1].type("crypto key import rsa GROUP terminal", f"{PASSPHRASE}\n{exported}\n") == "% Key pair import succeeded."


def test_a_full_disk_is_said_and_is_no_bug(nodes: list[Node], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CommandError, match=r"rsa/KEY\.json cannot be written: No space left on device"):
        nodes[0].type("crypto key generate rsa label KEY modulus 1024")
    assert nodes[0].keys.get("KEY") is None


def test_what_is_not_exportable_stays(nodes: list[Node]) -> None:
    nodes[0].type("crypto key generate rsa label STAYS modulus 1024")
    with pytest.raises(CommandError, match="not exportable"):
        nodes[0].type(f"crypto key export rsa STAYS pem terminal 3des {PASSPHRASE}")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("", "No private key was pasted"), ("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", "%")],
)
def test_what_is_no_key_is_not_imported(nodes: list[Node], text: str, complaint: str) -> None:
    with pytest.raises(CommandError, match=complaint):
        nodes[0].type(f"crypto key import rsa K terminal {PASSPHRASE}", text)
    assert nodes[0].keys.labels() == []


def test_a_wrong_passphrase_says_nothing_of_the_key(nodes: list[Node]) -> None:
    nodes[0].type("crypto key generate rsa label GROUP modulus 1024 exportable")
    exported = nodes[0].type(f"crypto key export rsa GROUP pem terminal aes {PASSPHRASE}")
    with pytest.raises(CommandError) as caught:
        nodes[1].type("crypto key import rsa GROUP terminal not-the-one", exported)
    assert "not-the-one" not in str(caught.value)


def test_a_key_is_not_replaced_by_accident(nodes: list[Node]) -> None:
    nodes[0].type("crypto key generate rsa label K modulus 1024")
    with pytest.raises(CommandError, match="crypto key zeroize rsa K"):
        nodes[0].type("crypto key generate rsa label K modulus 1024")


def test_zeroize_removes_one_or_all(nodes: list[Node]) -> None:
    for label in ("A", "B", "C"):
        nodes[0].type(f"crypto key generate rsa label {label} modulus 1024")
    assert nodes[0].type("crypto key zeroize rsa B") == "% Key pair B has been removed"
    assert nodes[0].keys.labels() == ["A", "C"]
    nodes[0].type("crypto key zeroize rsa")
    assert nodes[0].keys.labels() == []
    with pytest.raises(CommandError, match="No key pair is there"):
        nodes[0].type("crypto key zeroize rsa")
    with pytest.raises(CommandError, match="No key pair is labelled A"):
        nodes[0].type("show crypto key mypubkey rsa A")


def test_labels_cannot_leave_the_directory(nodes: list[Node]) -> None:
    with pytest.raises(CommandError, match="cannot label a key"):
        nodes[0].type("crypto key generate rsa label ../../etc/x modulus 1024")
    assert nodes[0].keys.get("../../etc/x") is None


def test_a_damaged_key_file_is_an_error_that_names_it(nodes: list[Node]) -> None:
    nodes[0].state.write("rsa/BAD.json", b'{"usage": "GENERAL"}')
    with pytest.raises(StateError, match=r"rsa/BAD\.json is not a key pair"):
        nodes[0].keys.get("BAD")


def test_of_two_that_make_a_key_of_one_label_at_once_the_second_is_refused(nodes: list[Node]) -> None:
    """Each works in a thread of its own; the first key may be in use by the time the second is there."""
    node: Any = nodes[0]

    async def both() -> list[Any]:
        line = "crypto key generate rsa label KEY modulus 1024"
        return await asyncio.gather(*(CONSOLE.run(node, line) for _ in range(2)), return_exceptions=True)

    made, refused = sorted(asyncio.run(both()), key=lambda said: isinstance(said, CommandError))
    assert "[OK]" in made
    assert isinstance(refused, CommandError)
    assert "A key pair labelled KEY exists" in str(refused)
    assert node.changes == 1
