"""Runs one fuzz target: `fuzz/run.py TARGET SECONDS` fuzzes, `fuzz/run.py TARGET FILE…` tries inputs without atheris."""

import importlib
import sys
from pathlib import Path

HERE = Path(__file__).parent
FOUND = HERE.parent / "build" / "fuzz"
LONGEST_INPUT = {"config": 4096, "topology": 2048}


def try_inputs(target: str, files: list[Path]) -> None:
    """Give each file to the target; an exception is the finding."""
    module = importlib.import_module(f"targets.{target}")
    for file in files:
        module.one_input(file.read_bytes())
        print(f"{file}: nothing found")


def fuzz(target: str, seconds: int) -> None:
    """Fuzz for `seconds`; ends the process, with status 0 if nothing was found."""
    import atheris

    with atheris.instrument_imports(include=["groupvpn"]):
        module = importlib.import_module(f"targets.{target}")
    found = FOUND / target
    found.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}", f"-max_len={LONGEST_INPUT.get(target, 1024)}", f"-artifact_prefix={found}/", "-timeout=10"]
    options += ["-print_final_stats=1", "-rss_limit_mb=1024"]
    atheris.Setup([target, *options, str(found), str(HERE / "corpus" / target)], module.one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    name, *rest = sys.argv[1:]
    if len(rest) == 1 and rest[0].isdigit():
        fuzz(name, int(rest[0]))
    try_inputs(name, [Path(file) for file in rest])
