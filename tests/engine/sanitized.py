"""A pytest plugin for `make test-sanitize`: the tests get the engine that was built with sanitizers, not the one that is installed.

`pytest -p tests.engine.sanitized` with GROUPVPN_ENGINE naming the module's file, and the sanitizer's run-time library in LD_PRELOAD.
"""

import importlib.util
import os
import sys

import groupvpn

NAME = "groupvpn._engine"


def load(path: str) -> None:
    """Make the file what `from groupvpn import _engine` gives. ImportError if it is no module of ours."""
    spec = importlib.util.spec_from_file_location(NAME, path)
    if spec is None or spec.loader is None:
        raise ImportError(f'GROUPVPN_ENGINE="{path}" is no extension module')
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    groupvpn._engine = module  # type: ignore[attr-defined]


if NAME in sys.modules:
    raise ImportError("the installed engine was loaded before the sanitized one")
load(os.environ["GROUPVPN_ENGINE"])
