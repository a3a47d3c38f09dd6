"""Groups as their key server shows them: `show crypto gdoi`, `show crypto gdoi ks …`."""

from collections.abc import Iterator, Sequence

from groupvpn.console.show.layout import FIRST_HANDLE, address, entry, labelled, replay, text
from groupvpn.gdoi.policy import ReplayMethod
from groupvpn.gdoi.status import KekStatus, KeyServerGroupStatus, RegisteredMemberStatus, SaPolicyStatus, TekStatus

_RFC_8263 = "Interoperable"
"""What routers call the acknowledgements of RFC 8263."""
_UNKNOWN_VERSION = "0.0.0"
"""Of members: GDOI tells key servers none."""
_RECENT = 4
"""Sequence numbers that the member list shows."""


def overview(groups: Sequence[KeyServerGroupStatus]) -> str:
    """`show crypto gdoi` on a key server."""
    return text(line for group in groups for line in (*_group(group), ""))


def summary(groups: Sequence[KeyServerGroupStatus]) -> str:
    """`show crypto gdoi ks`."""
    lines = [f"Total group members registered to this box: {sum(len(group.members) for group in groups)}", ""]
    for group in groups:
        lines += [
            f"Key Server Information For Group {group.name}:",
            labelled("Group Name", group.name),
            labelled("Re-auth on new CRL", "Disabled"),
            labelled("Group Identity", group.identity),
            labelled("Group Type", "GDOI (ISAKMP)"),
            labelled("Group Members", len(group.members)),
            labelled("Rekey Acknowledgement Cfg", _RFC_8263 if group.acknowledge else "None"),
            labelled("IPSec SA Direction", group.direction.value),
            labelled("IP D3P Window", "Disabled"),
            labelled("Split Resiliency Factor", 0),
            labelled("CKM status", "Disabled"),
            "    ACL Configured:",
            *(f"        access-list {sa.acl.name}" for sa in group.sas),
            "",
        ]
    return text(lines)


def members(groups: Sequence[KeyServerGroupStatus], wanted: str | None = None) -> str:
    """`show crypto gdoi ks members [ADDRESS]`."""
    lines = []
    for group in groups:
        lines += [
            f"Number of rekeys sent for group {group.name} : {group.rekeys_sent}",
            f"Number of retransmits during the last rekey for group {group.name} : {group.last_rekey_retransmits}",
            f"Duration of the last rekey for group {group.name} : {group.last_rekey_duration_msec} msec",
            "",
        ]
        found = [member for member in group.members if wanted in (None, str(member.address))]
        for member in found:
            lines += [*_member(member), ""]
        if wanted is not None and not found:
            lines += ["Group Member not Found", ""]
    return text(lines)


def members_summary(groups: Sequence[KeyServerGroupStatus]) -> str:
    """`show crypto gdoi ks members summary`."""
    lines = ["Group Member Information :", ""]
    for group in groups:
        lines += [
            f"Group Name: {group.name}, ID: {group.identity}, Group Members: {len(group.members)}",
            f"Key Server ID: {address(group.local_address)}, GMDB state: LOCAL, Group Members: {len(group.members)}",
            "  Member ID         Version     Rekey sent     Rekey Ack missed",
            *(
                f"  {member.address!s:<15}   {_UNKNOWN_VERSION:<11} {member.rekeys_sent:<14} {member.rekey_acks_missed}"
                for member in group.members
            ),
            "",
        ]
    return text(lines)


def policy(groups: Sequence[KeyServerGroupStatus]) -> str:
    """`show crypto gdoi ks policy`."""
    lines = ["Key Server Policy:"]
    for number, group in enumerate(groups):
        handle = f"0x{FIRST_HANDLE + number:X}"
        lines += [
            f"For group {group.name} (handle: {handle}) server {address(group.local_address)} (handle: {handle}):",
            "",
            f"  # of teks : {len(group.teks)}  Seq num : {group.sequence}",
            *(_kek(group.kek) if group.kek else ["  KEK POLICY : not configured"]),
        ]
        for tek in group.teks:
            lines += ["", *_tek(tek)]
        lines.append("")
    return text(lines)


def access_lists(groups: Sequence[KeyServerGroupStatus]) -> str:
    """`show crypto gdoi ks acl`."""
    lines = []
    for group in groups:
        lines += [f"Group Name: {group.name}", " Configured ACL:"]
        lines += [f"   access-list {sa.acl.name}  {entry(item)}" for sa in group.sas for item in sa.acl.entries]
        lines.append("")
    return text(lines)


def rekeys(groups: Sequence[KeyServerGroupStatus]) -> str:
    """`show crypto gdoi ks rekey`."""
    lines = []
    for group in groups:
        lines.append(f"Group {group.name} ({'Unicast' if group.is_unicast else 'Multicast'})")
        lines += [
            labelled("Number of Rekeys sent", group.rekeys_sent, width=37),
            labelled("Number of Rekeys retransmitted", group.last_rekey_retransmits, width=37),
            labelled("KEK rekey lifetime (sec)", _seconds(group.rekey_lifetime), width=37),
            labelled("    Remaining lifetime (sec)", _seconds(group.rekey_remaining), width=37),
            labelled("Retransmit period", group.retransmit_period, width=37),
            labelled("Number of retransmissions", group.retransmit_attempts, width=37),
        ]
        for sa in group.sas:
            lines += [
                labelled(f"IPSec SA {sa.slot} lifetime (sec)", sa.lifetime, width=37),
                labelled("    Time to next rekey (sec)", _seconds(sa.time_to_rekey), width=37),
            ]
        lines.append("")
    return text(lines)


def _seconds(value: int | None) -> str:
    return "---" if value is None else str(value)


def _group(group: KeyServerGroupStatus) -> Iterator[str]:
    yield "GROUP INFORMATION"
    yield ""
    yield labelled("Group Name", f"{group.name} ({'Unicast' if group.is_unicast else 'Multicast'})")
    yield labelled("Group Identity", group.identity)
    yield labelled("Group Type", "GDOI (ISAKMP)")
    yield labelled("Crypto Path", "ipv4")
    yield labelled("Key Management Path", "ipv4")
    yield labelled("Group Members", len(group.members))
    yield labelled("IPSec SA Direction", group.direction.value)
    if group.rekey_lifetime is not None:
        yield labelled("Group Rekey Lifetime", f"{group.rekey_lifetime} secs")
        yield "    Group Rekey"
        yield labelled("Remaining Lifetime", f"{_seconds(group.rekey_remaining)} secs", indent=8, width=21)
        if group.kek is not None and group.kek.time_to_rekey is not None:
            yield labelled("Time to Rekey", f"{group.kek.time_to_rekey} secs", indent=8, width=21)
        yield labelled("Rekey Retransmit Period", f"{group.retransmit_period} secs")
        yield labelled("Rekey Retransmit Attempts", group.retransmit_attempts)
        yield "    Group Retransmit"
        yield labelled("Remaining Lifetime", f"{group.retransmit_remaining or 0} secs", indent=8, width=21)
    for sa in group.sas:
        yield ""
        yield from _sa(sa)
    yield ""
    yield "     Group Server list       : Local"


def _sa(sa: SaPolicyStatus) -> Iterator[str]:
    yield labelled("IPSec SA Number", sa.slot, indent=6, width=23)
    yield labelled("IPSec SA Rekey Lifetime", f"{sa.lifetime} secs", indent=6, width=23)
    yield labelled("Profile Name", sa.profile_name, indent=6, width=23)
    if replay(sa.replay) == "Disabled":
        yield labelled("Replay method", "Disabled", indent=6, width=23)
    else:
        yield labelled("Replay method", "Count Based" if sa.replay.method is ReplayMethod.COUNTER else "Time Based", indent=6, width=23)
        yield labelled("Replay Window Size", sa.replay.window, indent=6, width=23)
    yield "      SA Rekey"
    yield labelled("Remaining Lifetime", f"{_seconds(sa.rekey_remaining)} secs", indent=9, width=20)
    yield labelled("ACL Configured", f"access-list {sa.acl.name}", indent=6, width=23)


def _member(member: RegisteredMemberStatus) -> Iterator[str]:
    yield f"Group Member ID    : {member.address}  GM Version: {_UNKNOWN_VERSION}"
    yield f" Group ID          : {member.group_identity}"
    yield f" Group Name        : {member.group_name}"
    yield " Group Type        : GDOI (ISAKMP)"
    yield " GM State          : Registered"
    yield f" UDP port          : {member.port}"
    yield f" Key Server ID     : {member.key_server}"
    yield f" Rekeys sent       : {member.rekeys_sent}"
    yield f" Rekeys retries    : {member.rekey_retries}"
    yield f" Rekey Acks Rcvd   : {member.rekey_acks_received}"
    yield f" Rekey Acks missed : {member.rekey_acks_missed}"
    if member.sender_ids:
        yield f" Sender IDs        : {', '.join(map(str, member.sender_ids))}"
    yield ""
    yield f" Sent seq num : {_sequences(member.sent_sequences)}"
    yield f" Rcvd seq num : {_sequences(member.received_sequences)}"


def _sequences(numbers: tuple[int, ...]) -> str:
    recent = (*numbers[-_RECENT:], 0, 0, 0, 0)[:_RECENT]
    return "".join(f"{number:<6}" for number in recent)


def _kek(kek: KekStatus) -> Iterator[str]:
    yield f"  KEK POLICY (transport type : {'Unicast' if kek.is_unicast else 'Multicast'})"
    yield f"    spi : 0x{kek.spi.hex().upper()}"
    yield _pair(
        "management alg", "disabled", "encrypt alg", "AES" if kek.cipher.has_variable_key else kek.cipher.keyword.split("-")[0].upper()
    )
    yield _pair("crypto iv length", kek.cipher.block_length, "key size", kek.cipher.key_length)
    yield _pair("orig life(sec)", kek.original_life, "remaining life(sec)", kek.remaining_life)
    yield f"    {'time to rekey (sec)':<19}: {_seconds(kek.time_to_rekey)}"
    yield _pair("sig hash algorithm", "enabled", "sig key length", kek.signature_key_length)
    yield f"    {'sig size':<19}: {kek.signature_size}"
    yield f"    {'sig key name':<19}: {kek.signature_key_name or '---'}"
    yield f"    {'acknowledgement':<19}: {_RFC_8263 if kek.acknowledge else 'None'}"


def _tek(tek: TekStatus) -> Iterator[str]:
    transform = tek.transform
    yield f"  TEK POLICY (encaps : ENCAPS_{transform.mode.name})"
    yield f"    {'spi':<19}: 0x{tek.spi:X}"
    yield f"    {'access-list':<19}: {tek.acl_name}"
    yield f"    {'transform':<19}: {transform.keywords}"
    yield _pair("alg key size", transform.cipher.key_length, "sig key size", transform.integrity.key_length)
    yield _pair("orig life(sec)", tek.original_life, "remaining life(sec)", tek.remaining_life)
    yield _pair("tek life(sec)", tek.original_life, "elapsed time(sec)", tek.elapsed)
    yield _pair("override life(sec)", 0, "antireplay window size", tek.replay.window if tek.replay.method is ReplayMethod.COUNTER else 0)
    yield f"    {'time to rekey (sec)':<19}: {'n/a' if tek.time_to_rekey is None else tek.time_to_rekey}"


def _pair(left: str, left_value: object, right: str, right_value: object) -> str:
    return f"    {left:<19}: {left_value!s:<13} {right:<22}: {right_value}"
