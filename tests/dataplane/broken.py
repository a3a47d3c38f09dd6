"""An nft that does not do what it should."""

from pathlib import Path


class Broken:
    """An `nft` that is found before the real one, as long as it is there, and notes how often it is called."""

    def __init__(self, folder: Path) -> None:
        self._script, self._calls = folder / "nft", folder / "calls"

    def breaks(self, does: str) -> None:
        self._script.write_text(f"#!/bin/sh\necho >>{self._calls}\n{does}\n")
        self._script.chmod(0o755)
        self._calls.write_text("")

    def heals(self) -> None:
        self._script.unlink()

    @property
    def calls(self) -> int:
        return len(self._calls.read_text())
