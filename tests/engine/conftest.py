"""The topology of `gateways.py`, fresh for a test."""

from collections.abc import Iterator

import pytest
from tests.engine.gateways import Net


@pytest.fixture
def net() -> Iterator[Net]:
    made = Net()
    try:
        yield made
    finally:
        made.close()
