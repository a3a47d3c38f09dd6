"""Wire formats: octets to frozen dataclasses and back. No state, no keys, no I/O.

Every decoder is total: it returns a value or raises `DecodeError`, in time and memory bounded by the named limits of its module.

- `isakmp`: the header and whole messages; `chain`: the payloads of a message with their exact octets for hashes
- `payloads`: the simple payloads; `sa`: proposals and transforms; `attributes`: TV and TLV
- `gdoi_sa`: SA of GDOI with SAK, GAP and SAT; `gdoi_keys`: KD
- `natt`: NAT-D, NAT-OA and the framing on port 4500; `vendor`: vendor IDs; `iana`: the numbers
"""

from groupvpn.wire.attributes import Attribute, decode_attributes, encode_attributes, find, find_number, lifetimes
from groupvpn.wire.chain import Chain, decode_chain
from groupvpn.wire.error import DecodeError, EncodeError
from groupvpn.wire.gdoi_keys import KeyDownload, KeyPacket
from groupvpn.wire.gdoi_sa import GroupAssociatedPolicy, GroupSecurityAssociation, SaKek, SaTek, TrafficIdentity
from groupvpn.wire.iana import Doi, ExchangeType, Flag, NotifyType, PayloadType, exchange_name, notify_name, payload_name
from groupvpn.wire.isakmp import HEADER_LENGTH, Header, decode_message, encode_message
from groupvpn.wire.natt import NatDiscovery, NatOriginalAddress
from groupvpn.wire.payload import Payload, encode_payload, encode_payloads
from groupvpn.wire.payloads import (
    Certificate,
    CertificateRequest,
    Delete,
    Hash,
    Identification,
    KeyExchange,
    Nonce,
    Notification,
    ProofOfPossession,
    RawPayload,
    SequenceNumber,
    Signature,
    VendorId,
)
from groupvpn.wire.sa import Proposal, SecurityAssociation, Transform

__all__ = [
    "HEADER_LENGTH",
    "Attribute",
    "Certificate",
    "CertificateRequest",
    "Chain",
    "DecodeError",
    "Delete",
    "Doi",
    "EncodeError",
    "ExchangeType",
    "Flag",
    "GroupAssociatedPolicy",
    "GroupSecurityAssociation",
    "Hash",
    "Header",
    "Identification",
    "KeyDownload",
    "KeyExchange",
    "KeyPacket",
    "NatDiscovery",
    "NatOriginalAddress",
    "Nonce",
    "Notification",
    "NotifyType",
    "Payload",
    "PayloadType",
    "ProofOfPossession",
    "Proposal",
    "RawPayload",
    "SaKek",
    "SaTek",
    "SecurityAssociation",
    "SequenceNumber",
    "Signature",
    "TrafficIdentity",
    "Transform",
    "VendorId",
    "decode_attributes",
    "decode_chain",
    "decode_message",
    "encode_attributes",
    "encode_message",
    "encode_payload",
    "encode_payloads",
    "exchange_name",
    "find",
    "find_number",
    "lifetimes",
    "notify_name",
    "payload_name",
]
