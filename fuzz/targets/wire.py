"""Any octets as a message, as a chain of payloads, as attributes: a value that encodes back to them, or `DecodeError`."""

from groupvpn.wire.attributes import encode_attributes, read_attributes
from groupvpn.wire.chain import decode_chain
from groupvpn.wire.cursor import Cursor
from groupvpn.wire.error import DecodeError
from groupvpn.wire.isakmp import Header, decode_message, encode_message
from groupvpn.wire.natt import classify_port_4500
from groupvpn.wire.payload import encode_payloads


def one_input(data: bytes) -> None:
    """The first octet says how the others are read."""
    how, octets = data[:1], data[1:]
    try:
        if how == b"m":
            header, chain = decode_message(octets)
            assert encode_message(header, chain.payloads) == octets
            assert str(header)
            assert str(chain) or not header.next_payload
        elif how == b"h":
            assert Header.decode(octets).encode() == octets[:28]
        elif how == b"a":
            assert encode_attributes(read_attributes(Cursor(octets))) == octets
        elif how == b"4":
            classify_port_4500(octets)
        elif how:
            chain = decode_chain(how[0], octets)
            assert encode_payloads(chain.payloads) == (how[0], octets[: chain.end])
    except DecodeError as error:
        assert str(error)
