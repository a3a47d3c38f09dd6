"""Key material that does not show itself."""

import hmac


class Secret:
    """Octets of a key: compared in constant time, never printed, and not picklable.

    The octets are reached with `reveal()`, so that every place which handles them can be found by that name. `wipe()` overwrites our
    own copy; copies that Python or a library made in passing are out of reach, which `docs/security.md` says too.
    """

    __slots__ = ("_octets",)

    def __init__(self, octets: bytes | bytearray) -> None:
        self._octets = bytearray(octets)

    def reveal(self) -> bytes:
        """The octets, in the byte order of the standard that defines the key."""
        return bytes(self._octets)

    def wipe(self) -> None:
        """Overwrite the octets with zeros; the secret has length 0 from then on."""
        for index in range(len(self._octets)):
            self._octets[index] = 0
        self._octets.clear()

    def __len__(self) -> int:
        return len(self._octets)

    def __eq__(self, other: object) -> bool:
        return hmac.compare_digest(self._octets, other._octets) if isinstance(other, Secret) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Secret of {len(self._octets)} octets>"

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not serialised; persist it on purpose, with reveal(), to a file of mode 0600")
