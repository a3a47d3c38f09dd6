"""Groups as a member shows them: `show crypto gdoi`, `show crypto gdoi gm …`."""

from collections.abc import Iterator, Sequence

from groupvpn import __version__
from groupvpn.console.show.layout import address, clock, entry, labelled, replay, spi, text
from groupvpn.gdoi.policy import ReplayMethod
from groupvpn.gdoi.status import GroupMemberStatus, KekStatus, RegistrationStatus, TekStatus

Located = tuple[GroupMemberStatus, str]
"""A group's status and the name of the interface whose crypto map it serves."""
_KEK_NAMES = {"des-cbc": "DES", "3des-cbc": "3DES"}


def overview(groups: Sequence[Located]) -> str:
    """`show crypto gdoi`."""
    return text(line for located in groups for line in (*_group(located), ""))


def members(groups: Sequence[Located]) -> str:
    """`show crypto gdoi gm`."""
    return text(line for status, _ in groups for line in (*_member(status), ""))


def access_lists(groups: Sequence[Located], *, downloaded: bool = True, local: bool = True) -> str:
    """`show crypto gdoi gm acl [download | local]`."""
    lines = []
    for status, _ in groups:
        lines.append(f"Group Name: {status.name}")
        if downloaded:
            lines += _downloaded(status, "   access-list  ")
        if local:
            lines.append(" ACL Configured Locally:")
            if status.acl_local:
                lines.append(f"   access-list {status.acl_local.name}")
                lines += [f"   access-list  {entry(item)}" for item in status.acl_local.entries]
    return text(lines)


def _downloaded(status: GroupMemberStatus, head: str) -> Iterator[str]:
    """The lists of a key server, and who that was; what is kept of an earlier run until there are some."""
    yield f" ACL Downloaded From KS {status.acl_server or 'UNKNOWN'}:"
    yield from (f"{head}{entry(item)}" for item in status.acl_downloaded)
    if status.acl_kept:
        yield " ACL Kept From Before The Start:"
        yield from (f"{head}{entry(item)}" for item in status.acl_kept)


def rekeys(groups: Sequence[Located]) -> str:
    """`show crypto gdoi gm rekey`."""
    lines = []
    for status, _ in groups:
        transport = "Unicast" if status.kek is None or status.kek.is_unicast else "Multicast"
        lines += [
            f"Group {status.name} ({transport})",
            labelled("Number of Rekeys received (cumulative)", status.rekeys_received, width=45),
            labelled("Number of Rekeys received after registration", status.rekeys_received_after_registration, width=45),
            labelled("Number of Rekey Acks sent", status.rekey_acks_sent, width=45),
            "",
            "Rekey (KEK) SA information :",
            "          dst             src             conn-id  my-cookie  his-cookie",
            _kek_line("New", status, status.kek),
            "Current : ---             ---               ---    ---        ---",
            _previous_line(status),
            "",
        ]
    return text(lines)


def _kek_line(label: str, status: GroupMemberStatus, kek: KekStatus | None) -> str:
    if kek is None:
        return f"{label:<8}: ---             ---               ---    ---        ---"
    destination = status.local.address if kek.is_unicast or kek.destination is None else kek.destination
    cookies = kek.spi.hex().upper()
    return f"{label:<8}: {destination!s:<15} {kek.source!s:<15} {connection_id(kek.spi):>6}   {cookies[:8]}   {cookies[16:24]}"


def _previous_line(status: GroupMemberStatus) -> str:
    if status.previous_kek_spi is None:
        return "Previous: ---             ---               ---    ---        ---"
    cookies = status.previous_kek_spi.hex().upper()
    return f"Previous: ---             ---             {connection_id(status.previous_kek_spi):>6}   {cookies[:8]}   {cookies[16:24]}"


def connection_id(cookies: bytes) -> int:
    """A number to call an ISAKMP or rekey SA by: taken from its cookies, so that it stays the same while the SA lives."""
    return 1001 + int.from_bytes(cookies[:4], "big") % 64000


def _group(located: Located) -> Iterator[str]:
    status, interface = located
    yield "GROUP INFORMATION"
    yield ""
    yield labelled("Group Name", status.name)
    yield labelled("Group Identity", status.identity)
    yield labelled("Group Type", "GDOI (ISAKMP)")
    yield labelled("Crypto Path", "ipv4")
    yield labelled("Key Management Path", "ipv4")
    yield labelled("Rekeys received", status.rekeys_received)
    yield labelled("IPSec SA Direction", status.direction.value)
    yield ""
    for position, server in enumerate(status.servers):
        yield f"     {'Group Server list       :' if position == 0 else ' ' * 25} {server}"
    yield ""
    yield from _member(status)
    yield ""
    yield "    Rekeys cumulative"
    yield labelled("Total received", status.rekeys_received, indent=7, width=22)
    yield labelled("After latest register", status.rekeys_received_after_registration, indent=7, width=22)
    yield labelled("Rekey Acks sents", status.rekey_acks_sent, indent=7, width=22)
    yield ""
    yield from _downloaded(status, "   access-list   ")
    if status.kek:
        yield ""
        yield from _kek(status.kek)
    if status.teks:
        yield ""
        yield "TEK POLICY for the current KS-Policy ACEs Downloaded:"
        yield f"  {interface}:"
        for tek in status.teks:
            yield from _tek(tek)
            yield ""
    if status.registration_status is RegistrationStatus.REGISTERED:
        for policy in ("KGS", "P2P"):
            yield ""
            yield f"{policy} POLICY:"
            yield f"  REG_GM: local_addr {status.local.address}"


def _member(status: GroupMemberStatus) -> Iterator[str]:
    """What we have not (PFS in rekeys, registrations that the data plane asks for, object tracking) says so in the words of routers."""

    def line(label: str, value: object) -> str:
        return labelled(label, value, indent=7, width=22)

    yield f"Group Member Information For Group {status.name}:"
    yield labelled("IPSec SA Direction", status.direction.value)
    yield labelled("ACL Received From KS", status.acl_name)
    yield ""
    yield f"    Group member             : {status.local.address!s:<15} vrf: None"
    yield line("Local addr/port", f"{status.local.address}/{status.local.port}")
    yield line("Remote addr/port", f"{status.remote.address}/{status.remote.port}" if status.remote else "0.0.0.0/0")
    yield line("fvrf/ivrf", "None/None")
    yield line("Version", __version__)
    yield line("Registration status", status.registration_status.value)
    if status.waits_for is not None:
        yield line("Waits for", f"an address of {status.waits_for}")
    yield line("Registered with", address(status.active_server))
    comes_back = status.next_attempt_in if status.reregisters_in is None else status.reregisters_in
    yield line("Re-registers in", "---" if comes_back is None else f"{comes_back} sec")
    yield line("Succeeded registration", status.registrations_succeeded)
    yield line("Attempted registration", status.registrations_attempted)
    yield line("Last rekey from", address(status.last_rekey_from))
    yield line("Last rekey seq num", status.last_rekey_sequence)
    if status.kek is not None and not status.kek.is_unicast:
        yield line("Multicast rekey rcvd", status.multicast_rekeys_received)
    yield line("Unicast rekey received", status.unicast_rekeys_received)
    yield line("Rekey ACKs sent", status.rekey_acks_sent)
    if status.esp_in_udp is not None:
        yield line("Sends ESP in UDP", f"port {status.esp_in_udp}")
    yield line("Rekey Rcvd(hh:mm:ss)", clock(status.rekey_received_ago or 0))
    yield line("PFS Rekey received", 0)
    yield line("DP Error Monitoring", "OFF")
    yield labelled("IPSEC init reg executed", 0, indent=7, width=27)
    yield labelled("IPSEC init reg postponed", 0, indent=7, width=27)
    yield line("Active TEK Number", len(status.teks))
    yield line("SA Track (OID/status)", "disabled")
    yield line("Fail-Close Revert", "Disabled")
    if status.sender_ids:
        yield line("Sender IDs", f"{', '.join(map(str, status.sender_ids))} ({status.sender_id_bits} bits)")
    yield ""
    yield line("allowable rekey cipher", ", ".join(cipher.keyword for cipher in status.allowed_kek_ciphers) or "any")
    yield line("allowable rekey hash", ", ".join(item.keyword for item in status.allowed_kek_hashes) or "any")
    yield line("allowable transformtag", ", ".join(item.keywords for item in status.allowed_transforms) or "any ESP")


def _kek(kek: KekStatus) -> Iterator[str]:
    yield "KEK POLICY:"
    yield labelled("Rekey Transport Type", "Unicast" if kek.is_unicast else "Multicast")
    yield labelled("Lifetime (secs)", kek.remaining_life)
    yield labelled("Encrypt Algorithm", _KEK_NAMES.get(kek.cipher.keyword, "AES"))
    yield labelled("Key Size", kek.cipher.key_length * 8)
    yield labelled("Sig Hash Algorithm", f"HMAC_AUTH_{kek.signature_hash.keyword.upper()}")
    yield labelled("Sig Key Length (bits)", kek.signature_key_length * 8)


def _tek(tek: TekStatus) -> Iterator[str]:
    yield "    IPsec SA:"
    yield f"        spi: {spi(tek.spi)}"
    yield f"        transform: {tek.transform.keywords}"
    yield f"        sa timing:remaining key lifetime (sec): ({tek.remaining_life})"
    method = replay(tek.replay)
    unit = " sec interval" if tek.replay.method is ReplayMethod.TIME else ""
    yield "        Anti-Replay : Disabled" if method == "Disabled" else f"        Anti-Replay({method.replace(' :', ') :', 1)}{unit}"
    yield "        tag method : disabled"
    yield f"        alg key size: {tek.transform.cipher.key_length} (bytes)"
    yield f"        sig key size: {tek.transform.integrity.key_length} (bytes)"
    yield f"        encaps: ENCAPS_{tek.transform.mode.name}"
