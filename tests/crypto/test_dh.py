"""Diffie-Hellman: recorded exchanges, RFC 5903's examples, and public values that must be refused."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from groupvpn.crypto import dh
from groupvpn.crypto.modp import modp
from groupvpn.crypto.registry import IkeGroup

VECTORS = Path(__file__).parent.parent / "vectors"
RECORDED = {path.stem: json.loads(path.read_text())["phase1"] for path in sorted(VECTORS.glob("gdoi-*.json"))}
ECP: dict[str, Any] = json.loads((VECTORS / "ecp-groups.json").read_text())
MODP_GROUPS = [group for group in IkeGroup if group not in dh.CURVES]


def octets_of(seed: str) -> dh.Entropy:
    """Octets that depend on the seed and the length only."""
    return lambda length: hashlib.shake_256(seed.encode()).digest(length)


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_exchanges(name: str) -> None:
    phase1 = RECORDED[name]
    group = IkeGroup.from_wire(phase1["group"])
    server = dh.from_private(group, int(phase1["dh_private_of_ks"], 16))
    member = dh.from_private(group, int(phase1["dh_private_of_gm"], 16))
    assert server.public.hex() == phase1["g_xr"]
    assert member.public.hex() == phase1["g_xi"]
    assert server.shared_secret(member.public).reveal().hex() == phase1["g_xy"]
    assert member.shared_secret(server.public).reveal().hex() == phase1["g_xy"]


@pytest.mark.parametrize("number", [19, 20, 21])
def test_examples_of_rfc_5903(number: int) -> None:
    values = ECP[str(number)]
    one = dh.from_private(IkeGroup.from_wire(number), int(values["i"], 16))
    other = dh.from_private(IkeGroup.from_wire(number), int(values["r"], 16))
    assert one.public.hex() == values["g_i"]
    assert other.public.hex() == values["g_r"]
    assert one.shared_secret(other.public).reveal().hex() == values["secret"]


@pytest.mark.parametrize("group", IkeGroup, ids=lambda item: item.name)
def test_both_ends_get_the_same_secret(group: IkeGroup) -> None:
    one, other = dh.generate(group, octets_of("one")), dh.generate(group, octets_of("other"))
    assert one.public != other.public
    assert len(one.public) == dh.public_length(group)
    assert one.shared_secret(other.public) == other.shared_secret(one.public)
    assert dh.generate(group, octets_of("one")) == one


@pytest.mark.parametrize("group", IkeGroup, ids=lambda item: item.name)
def test_extreme_entropy_gives_a_proper_pair(group: IkeGroup) -> None:
    for octet in (b"\x00", b"\xff"):
        pair = dh.generate(group, lambda length, octet=octet: octet * length)
        assert len(pair.shared_secret(dh.generate(group, octets_of("other")).public)) > 0


@pytest.mark.parametrize("group", MODP_GROUPS, ids=lambda item: item.name)
def test_degenerate_numbers_are_refused(group: IkeGroup) -> None:
    parameters = modp(group)
    pair = dh.generate(group, octets_of("one"))
    for value in (0, 1, parameters.prime - 1, parameters.prime, parameters.prime + 1):
        with pytest.raises(dh.PublicValueError, match="between 2 and p - 2"):
            pair.shared_secret(value.to_bytes(parameters.length, "big"))


@pytest.mark.parametrize("group", IkeGroup, ids=lambda item: item.name)
def test_wrong_lengths_are_refused(group: IkeGroup) -> None:
    pair = dh.generate(group, octets_of("one"))
    for octets in (b"", pair.public[1:], pair.public + b"\x00", b"\x00" + pair.public):
        with pytest.raises(dh.PublicValueError, match="octets, not"):
            pair.shared_secret(octets)


def test_a_number_outside_the_subgroup_of_group_24_is_refused() -> None:
    parameters = modp(IkeGroup.MODP_2048_256)
    outside = next(value for value in range(2, 50) if pow(value, parameters.order or 0, parameters.prime) != 1)
    with pytest.raises(dh.PublicValueError, match="outside the subgroup"):
        dh.generate(IkeGroup.MODP_2048_256, octets_of("one")).shared_secret(outside.to_bytes(256, "big"))


@pytest.mark.parametrize("group", dh.CURVES, ids=lambda item: item.name)
def test_points_off_the_curve_are_refused(group: IkeGroup) -> None:
    pair = dh.generate(group, octets_of("one"))
    half = len(pair.public) // 2
    off = bytearray(pair.public)
    off[-1] ^= 1
    for octets in (bytes(off), bytes(2 * half), b"\xff" * 2 * half, pair.public[half:] + pair.public[:half]):
        with pytest.raises(dh.PublicValueError, match="not on the curve"):
            pair.shared_secret(octets)


def test_a_pair_does_not_show_its_private_value() -> None:
    pair = dh.from_private(IkeGroup.ECP_256, 0x1234567890)
    assert "1234567890" not in repr(pair)
