"""Real nodes in namespaces, captured on the wire; tshark reads the registration with the table that `--debug-key-table` writes."""

import re
import secrets
import shlex
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from groupvpn.lab.capture import UDP
from groupvpn.lab.lab import Lab
from groupvpn.lab.topology import load

pytestmark = [
    pytest.mark.interop("tshark"),
    pytest.mark.netns,
]
DEMO = Path(__file__).parents[2] / "topologies" / "demo"
TOPOLOGY = """
nodes:
  core: {{}}
  ks: {{configuration: ks.cfg, rsa keys: {{GROUPKEY: 2048}}}}
  gm1: {{configuration: gm1.cfg, options: [--debug-key-table, {table}]}}
  h1: {{}}
links:
  - core:toks 10.0.0.1/30 -- ks:eth0 10.0.0.2/30
  - core:togm1 10.0.1.1/30 -- gm1:eth0 10.0.1.2/30
  - h1:eth0 10.1.1.2/24 -- gm1:eth1 10.1.1.1/24
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    for name in ("ks.cfg", "gm1.cfg"):
        shutil.copy(DEMO / name, tmp_path)
    (tmp_path / "topology.yaml").write_text(TOPOLOGY.format(table=tmp_path / "table"), encoding="utf-8")
    with Lab(load(tmp_path), f"x{secrets.token_hex(4)}") as made:
        made.up(start=False)
        yield made


def change_doi(capture: Path) -> None:
    """Have the SA payloads of phase 1 name DOI 1, by the command of the operator's guide: tshark 4.0 decrypts nothing under DOI 2."""
    guide = (Path(__file__).parents[2] / "docs" / "operator-guide.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^# (perl .*) registration\.pcap$", guide, flags=re.MULTILINE)
    before = capture.read_bytes()
    subprocess.run([*shlex.split(command), str(capture)], check=True, timeout=60)
    after = capture.read_bytes()
    assert len(before) == len(after)
    assert before != after


def decode(capture: Path, table: Path) -> str:
    """What the commands of the operator's guide show of a capture, with the lines of the table that are for it."""
    guide = (Path(__file__).parents[2] / "docs" / "operator-guide.md").read_text(encoding="utf-8")
    script = "\n".join(re.findall(r"^# (tshark -r registration\.pcap .*)$", guide, flags=re.MULTILINE))
    script = script.replace("registration.pcap", str(capture)).replace("/root/keys", str(table)).replace("-O isakmp", "-O isakmp -V")
    done = subprocess.run(["sh", "-ec", script], cwd=capture.parent, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout


def test_tshark_reads_the_registration_of_a_real_node(lab: Lab, tmp_path: Path) -> None:
    capture_file, table = tmp_path / "wire.pcap", tmp_path / "table"
    lab.start(["ks"])
    with lab.capture("core:togm1", file=capture_file) as capture:
        lab.start(["gm1"])
        lab.node("gm1").wait_registered()
    assert {frame.ports for frame in capture if frame.protocol == UDP} == {(848, 848)}
    assert stat.S_IMODE(table.stat().st_mode) == 0o600
    assert "KEY_TABLE" in lab.node("gm1").log
    change_doi(capture_file)
    with table.open("a", encoding="ascii") as lines:
        lines.write("0123456789abcdef,00112233445566778899aabbccddeeff\n")  # a later SA, of which the capture knows nothing
    shown = decode(capture_file, table)
    assert shown.count("Exchange type: Identity Protection (Main Mode) (2)") == 6
    assert shown.count("Exchange type: Quick Mode (32)") == 4
    assert "ID_KEY_ID: 000004d2" in shown
    assert "Payload: SA TEK Payload (16)" in shown
    assert "Payload: Sequence Number (18)" in shown
    assert "Payload: Key Download (17)" in shown
    assert shown.count("TEK_ALGORITHM_KEY") >= 2
    assert "Encrypted Data" in shown
    assert "Payload: Hash (8)" in shown


def test_without_the_option_no_table_is_written_and_nothing_is_read(lab: Lab, tmp_path: Path) -> None:
    text = (tmp_path / "topology.yaml").read_text(encoding="utf-8").replace(f", options: [--debug-key-table, {tmp_path / 'table'}]", "")
    (tmp_path / "topology.yaml").write_text(text, encoding="utf-8")
    lab.topology = load(tmp_path)
    capture_file = tmp_path / "wire.pcap"
    lab.start(["ks"])
    with lab.capture("core:togm1", file=capture_file):
        lab.start(["gm1"])
        lab.node("gm1").wait_registered()
    assert not (tmp_path / "table").exists()
    assert "KEY_TABLE" not in lab.node("gm1").log
    command = ["tshark", "-r", str(capture_file), "-d", "udp.port==848,isakmp", "-O", "isakmp", "-V"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert shown.count("Exchange type: Quick Mode (32)") == 4
    assert "Key Download" not in shown
