"""Key octets stay where they are."""

import pickle

import pytest

from groupvpn.crypto.secret import Secret


def test_a_secret_shows_its_length_only() -> None:
    secret = Secret(b"battery staple")
    assert "battery" not in repr(secret) + str(secret) + f"{secret}"
    assert len(secret) == 14
    assert secret.reveal() == b"battery staple"


def test_equality_is_by_octets() -> None:
    assert Secret(b"a") == Secret(b"a")
    assert Secret(b"a") != Secret(b"b")
    assert Secret(b"a") != b"a"


def test_wiping_leaves_nothing() -> None:
    secret = Secret(b"battery staple")
    secret.wipe()
    assert secret.reveal() == b""


def test_a_secret_is_neither_pickled_nor_hashed() -> None:
    with pytest.raises(TypeError, match="not serialised"):
        pickle.dumps(Secret(b"a"))
    with pytest.raises(TypeError, match="unhashable"):
        hash(Secret(b"a"))
