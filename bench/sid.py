"""Fetches the newest wireguard-go: Debian's unstable package of it runs on the stable release too.

A private apt configuration in a temporary folder does it, with the mirror and keyring that this machine's own sources name, so that
nothing of the machine's packages or lists changes.
"""

import re
import subprocess
import tempfile
from pathlib import Path

from bench.place import BenchError

_SOURCES = Path("/etc/apt")
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def _release() -> str:
    """The code name of the Debian release that runs here."""
    found = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    if not found:
        raise BenchError("/etc/os-release names no VERSION_CODENAME; this needs Debian")
    return found[1]


def mirror() -> str:
    """The URI that this machine takes its release from (apt's `sources.list` and deb822 `*.sources`)."""
    release = _release()
    for file in sorted(_SOURCES.glob("sources.list.d/*.sources")):
        for stanza in re.split(r"\n\s*\n", file.read_text()):
            fields = dict(re.findall(r"^(\w[\w-]*):\s*(.*)$", stanza, re.MULTILINE))
            if release in fields.get("Suites", "").split() and fields.get("URIs"):
                return str(fields["URIs"].split()[0])
    for file in [_SOURCES / "sources.list", *sorted(_SOURCES.glob("sources.list.d/*.list"))]:
        text = file.read_text() if file.exists() else ""
        if found := re.search(rf"^deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+{release}\s", text, re.MULTILINE):
            return found[1]
    raise BenchError(f"apt's sources name no mirror for {release}")


def wireguard_go(target: Path) -> Path:
    """The program at `target`, fetched if it is not there yet."""
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(prefix="groupvpn-sid-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # apt drops its rights to fetch
        for part in ("lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True)
        source = f"Types: deb\nURIs: {mirror()}\nSuites: sid\nComponents: main\nSigned-By: {_KEYRING}\n"
        (folder / "sid.sources").write_text(source)
        options = {
            "Dir::Etc::sourcelist": folder / "sid.sources",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State::lists": folder / "lists",
            "Dir::Cache": folder / "cache",
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
            "APT::Default-Release": "",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
        }
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        for command in (["apt-get", *words, "-qq", "update"], ["apt-get", *words, "-qq", "download", "wireguard-go"]):
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                raise BenchError(f"{command[-1]} from sid: {done.stderr.strip()}")
        package = next(folder.glob("wireguard-go_*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder / "root")], check=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(next((folder / "root/usr").glob("*bin/wireguard-go")).read_bytes())
        target.chmod(0o755)
        target.with_suffix(".version").write_text(package.name.split("_")[1])
    return target
