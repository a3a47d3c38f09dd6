"""The syslog messages of a group: mnemonic, facility, severity, text (`groupvpn.reports`).

Mnemonics and, where the manuals show them, texts are the routers' own; where a manual gives only a meaning, the text is ours in the same
manner.
"""

from groupvpn.reports import Catalogue, Message, Severity

_ALERT, _ERROR, _WARNING, _NOTICE, _INFO = (
    Severity.ALERT,
    Severity.ERROR,
    Severity.WARNING,
    Severity.NOTICE,
    Severity.INFORMATIONAL,
)

_TABLE = (
    # A member and its registration.
    Message("GM_REGSTER", _NOTICE, "Start registration for group {group} using address {address}", "CRYPTO"),
    Message("GM_REGS_COMPL", _NOTICE, "Registration complete for group {group} using address {address}"),
    Message("GM_RE_REGISTER", _NOTICE, "IPsec SA of group {group} expired or was cleared. Registering again", "CRYPTO"),
    Message("GM_REGISTER_FAIL", _ERROR, "Registration of group {group} with key server {server} failed: {reason}"),
    Message("GM_INCOMPLETE_CFG", _WARNING, "Group {group} cannot register: {missing} not configured"),
    Message("GM_CM_ATTACH", _NOTICE, "Crypto map attached for group {group} with address {address}", "CRYPTO"),
    Message("GM_CM_DETACH", _NOTICE, "Crypto map detached for group {group} with address {address}", "CRYPTO"),
    Message("GM_UNREGISTER", _NOTICE, "GM {address} left the group {group}"),
    Message("GM_CLEAR_REGISTER", _NOTICE, "Registration of GM {address} in group {group} cleared by command"),
    Message("GM_RECV_DELETE", _NOTICE, "GM {address} received delete from KS {server} in group {group}. Re-register"),
    Message(
        "GM_NO_TEK",
        _WARNING,
        "Registration of GM {address} with KS {server} in group {group} brought no TEK. What held before it holds until a rekey brings one",
    ),
    Message("GM_HASH_FAIL", _ERROR, "Registration message of KS {peer} for group {group} has a bad hash or none"),
    Message("GM_REJECTING_SA_PAYLOAD", _ERROR, "SA payload of KS {peer} for group {group} rejected: {reason}"),
    Message("UNSUPPORTED_TEK_PROTO", _ERROR, "Unexpected TEK protocol from KS {peer} in group {group}: {reason}"),
    # What a member was given.
    Message("GM_ACL_MERGE", _INFO, "Local ACL of GM {address} goes before the ACL of KS {server} in group {group}"),
    Message(
        "GM_ACL_PERMIT", _ERROR, "GM supports only ACL deny. Traffic that matches a permit of the local ACL of group {group} is dropped"
    ),
    Message("GDOI_ACL_NUM", _ERROR, "The ACL {acl} of group {group} has {count} entries. GDOI honours the first {limit} only"),
    Message("GM_SA_INGRESS", _NOTICE, "Receive-only ACL received from KS {server} in group {group}"),
    Message("GM_CONV_SA_DUPLEX", _NOTICE, "IPsec SAs converted to bidirectional in group {group} on GM {address}"),
    Message(
        "GM_SEQUENCE_LOW",
        _WARNING,
        "SA {spi} of group {group} on GM {address} runs out of sequence numbers, and no Sender-ID gives it others. "
        "It needs a successor: crypto gdoi ks rekey",
    ),
    Message("GM_CONV_SA_DUPLEX_LOCAL", _NOTICE, "IPsec SAs converted to bidirectional in group {group} on GM {address} by local command"),
    # A member and its rekeys.
    Message("GM_RECV_REKEY", _NOTICE, "Received Rekey for group {group} from {source} to {destination} with seq # {sequence}"),
    Message("GM_KEK_EXPIRED", _NOTICE, "Rekey SA of group {group} expired on GM {address}, and no rekey brought another. Register again"),
    Message("GDOI_REKEY_FAILURE", _ERROR, "Rekey for group {group} from {peer} refused on GM {address}: {reason}"),
    Message("GDOI_REKEY_SEQ_FAILURE", _ERROR, "Rekey for group {group} from {peer} refused on GM {address}: {reason}"),
    Message(
        "PSEUDO_TIME_LARGE",
        _ERROR,
        "Pseudotime difference between key server ({told} sec) and GM ({own} sec) is larger than expected in group {group}. "
        "Adjust to new pseudotime",
    ),
    Message(
        "PSEUDO_TIME_TOO_OLD",
        _ERROR,
        "Rekey received in group {group} is too old and fail PST check: my_pst is {own} sec, peer_pst is {told} sec, "
        "allowable_skew is {skew} sec",
    ),
    Message("GM_REKEY_TRANS_2_MULTI", _NOTICE, "Group {group} transitioned to multicast rekey"),
    Message("GM_REKEY_TRANS_2_UNI", _NOTICE, "Group {group} transitioned to unicast rekey"),
    # A key server and registrations.
    Message("KS_GROUP_ADD", _NOTICE, "Group {group} added to the key server"),
    Message("KS_GROUP_DELETE", _NOTICE, "Group {group} removed from the key server"),
    Message("KS_FIRST_GM", _INFO, "First GM {address} joined the group {group}"),
    Message("KS_LAST_GM", _INFO, "Last GM {address} left the group {group}"),
    Message("KS_REGS_COMPL", _NOTICE, "Registration of GM {address} in group {group} complete"),
    Message("KS_BAD_ID", _ERROR, "Registration of GM {peer} does not fit the configuration: {reason}"),
    Message("KS_HASH_FAIL", _ERROR, "Registration message of GM {peer} has a bad hash or none"),
    Message("KS_GM_REJECTS_SA_PAYLOAD", _ERROR, "GM {peer} rejects the SA payload of group {group}: {reason}"),
    Message("UNAUTHORIZED_IPADDR", _ALERT, "Group {group} received registration from unauthorized ip address: {peer}"),
    Message(
        "UNREGISTERED_INTERFACE", _ALERT, "Group {group} received registration from {peer} on unregistered interface address {address}"
    ),
    Message(
        "KS_NO_RSA_KEYS", _WARNING, "RSA key {label} of group {group} not found: no rekeys until `crypto key generate rsa label {label}`"
    ),
    Message(
        "KS_RSA_KEY_CHANGED",
        _WARNING,
        "RSA key {label} of group {group} is not the one that its members know. They take no rekey until they have registered again",
    ),
    Message("KS_REGISTER_FAIL", _ERROR, "GM {peer} cannot be registered in group {group}: {reason}"),
    Message("KS_MEMBERS_FULL", _WARNING, "Group {group} has {count} members, its maximum: no place for GM {peer}"),
    Message("KS_SIDS_REFUSED", _WARNING, "GM {peer} has drawn its share of the Sender-IDs of group {group} and gets none for now"),
    Message("KS_SIDS_EXHAUSTED", _WARNING, "All {count} Sender-IDs of group {group} are used up: it begins anew with other keys"),
    Message("KS_CLEAR_REGISTER", _NOTICE, "Registrations of group {group} cleared by command"),
    # A key server and rekeys.
    Message(
        "KS_SEND_MCAST_REKEY",
        _NOTICE,
        "Sending Multicast Rekey for group {group} from address {source} to {destination} with seq # {sequence}",
    ),
    Message("KS_SEND_UNICAST_REKEY", _NOTICE, "Sending Unicast Rekey for group {group} from address {source} with seq # {sequence}"),
    Message(
        "KS_TEK_LAPSED",
        _WARNING,
        "The TEK of sa ipsec {slot} in group {group} ended before this key server renewed it: members had none. It has made another",
    ),
    Message("KS_NO_REKEY", _WARNING, "Group {group} has no rekeys: its members get the new keys when they register again"),
    Message("KS_REKEY_FAILED", _ERROR, "Rekey of group {group} cannot be sent: {reason}"),
    Message("KS_NACK_GM_EJECT", _WARNING, "KS ejected GM {address} in group {group} for missing acknowledgements"),
    Message("KS_UNSOL_ACK", _WARNING, "KS received unsolicited ACK from {peer} in group {group} with seq # {sequence}"),
    Message("KS_REKEY_TRANS_2_MULTI", _NOTICE, "Group {group} transitioned to multicast rekey"),
    Message("KS_REKEY_TRANS_2_UNI", _NOTICE, "Group {group} transitioned to unicast rekey"),
    Message("KS_CONV_SAS_DUPLEX", _NOTICE, "IPsec SAs converted to bidirectional in group {group}"),
    Message("KS_CONV_SAS_INGRESS", _NOTICE, "IPsec SAs converted to receive-only in group {group}"),
)

MESSAGES = Catalogue(*_TABLE)
"""Every message that the cores of a group can send, by mnemonic."""
report = MESSAGES.report
