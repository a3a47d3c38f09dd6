"""What the programs of an interface are told beside their instructions."""

from groupvpn.dataplane.bytecode import on_the_wire
from groupvpn.dataplane.filters import Filters


def test_the_map_holds_the_spis_of_today_and_no_others() -> None:
    filters, words = Filters("groupvpn_wan"), set[int]()
    for spis in ({5, 6}, {6, 0x12345678}, set[int]()):
        filters._set_spis(words, frozenset(spis))  # type: ignore[arg-type]
        assert words == {on_the_wire(spi, 4) for spi in spis}
