"""Programs that are missing, fail or hang become errors that name the program and the mend."""

import pytest

from groupvpn.dataplane import programs
from groupvpn.dataplane.programs import ProgramError, run


def test_input_and_output() -> None:
    assert run(["cat"], "rules\n") == "rules\n"


def test_a_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(programs, "SYSTEM_FOLDERS", ())
    with pytest.raises(ProgramError, match=r"^nft: not found; install the package nftables$"):
        run(["nft", "list"])


def test_a_program_that_cannot_be_started_is_an_error_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the unit's TasksMax is reached, or no descriptor is left."""

    def refuse(*arguments: object, **options: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(programs.subprocess, "run", refuse)
    with pytest.raises(ProgramError, match=r"^nft: cannot be started: Resource temporarily unavailable$"):
        run(["nft", "list"])


@pytest.mark.parametrize("path", ["/nowhere", "", None])
def test_programs_are_found_without_a_path_too(monkeypatch: pytest.MonkeyPatch, path: str | None) -> None:
    """As after `su`, whose PATH lacks the folders of the system's own programs."""
    monkeypatch.delenv("PATH") if path is None else monkeypatch.setenv("PATH", path)
    assert run(["nft", "--version"]).startswith("nftables")
    assert run(["tc", "-V"]).startswith("tc ")


def test_a_failure_says_what_the_program_said() -> None:
    with pytest.raises(ProgramError, match="sh: no such rule"):
        run(["sh", "-c", "echo no such rule >&2; exit 3"])
    with pytest.raises(ProgramError, match="exit status 3"):
        run(["sh", "-c", "exit 3"])


def test_a_program_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "TIMEOUT", 0.05)
    with pytest.raises(ProgramError, match=r"no answer within 0\.05 s to: sleep 5"):
        run(["sleep", "5"])
