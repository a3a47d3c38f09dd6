"""Status values that several tests of `show` print."""

from ipaddress import IPv4Address

from groupvpn.crypto.registry import EspCipher, EspIntegrity, KekCipher, SignatureHash
from groupvpn.effects import Endpoint
from groupvpn.gdoi.policy import Replay, ReplayMethod
from groupvpn.gdoi.status import (
    GroupMemberStatus,
    KekStatus,
    KeyServerGroupStatus,
    RegisteredMemberStatus,
    RegistrationStatus,
    SaPolicyStatus,
    TekStatus,
)
from groupvpn.ipsec.acl import AccessList, Action, AddressMatch, Entry
from groupvpn.ipsec.sa import Direction
from groupvpn.ipsec.transform import Transform

KS, GM = IPv4Address("10.9.0.1"), IPv4Address("10.1.0.1")
GDOI_DENY = Entry(Action.DENY, 17, AddressMatch.any(), AddressMatch.any(), 848, 848)
SITES = Entry(Action.PERMIT, 0, AddressMatch(IPv4Address("10.0.0.0"), IPv4Address("0.255.255.255")), AddressMatch.any())
ACL = AccessList("traffic", (GDOI_DENY, SITES))
TRANSFORM = Transform(EspCipher.AES_256_CBC, EspIntegrity.HMAC_SHA2_256_128)
TEK = TekStatus(0x5AE90201, TRANSFORM, Replay(ReplayMethod.COUNTER, 64), 710, "traffic", 3600, 2890, 620, ACL.entries)
KEK = KekStatus(
    bytes(range(0xA0, 0xB0)), True, KS, None, KekCipher.AES_256_CBC, SignatureHash.SHA2_256, 294, 256, True, 1109, 86400, 7, 900, "rekeys"
)
MEMBER = GroupMemberStatus(
    name="bank",
    identity=1234,
    servers=(KS, IPv4Address("10.9.0.2")),
    active_server=KS,
    local=Endpoint(GM, 848),
    remote=Endpoint(KS, 848),
    registration_status=RegistrationStatus.REGISTERED,
    direction=Direction.BOTH,
    reregisters_in=650,
    registrations_succeeded=1,
    registrations_attempted=2,
    last_rekey_from=KS,
    last_rekey_sequence=7,
    rekeys_received=25,
    rekeys_received_after_registration=3,
    unicast_rekeys_received=25,
    multicast_rekeys_received=0,
    rekey_acks_sent=24,
    rekey_received_ago=3725,
    acl_name="gdoi_group_bank_temp_acl",
    acl_downloaded=ACL.entries,
    acl_local=None,
    allowed_kek_ciphers=(),
    allowed_kek_hashes=(),
    allowed_transforms=(),
    kek=KEK,
    previous_kek_spi=None,
    teks=(TEK,),
    sender_ids=(),
    sender_id_bits=24,
    drops={},
    acl_server=KS,
)
REGISTERED = RegisteredMemberStatus(GM, 848, "bank", 1234, KS, 4, 1, 3, 1, (4, 5), (4,), (17,))
SERVED = KeyServerGroupStatus(
    name="bank",
    identity=1234,
    local_address=KS,
    is_unicast=True,
    direction=Direction.BOTH,
    acknowledge=True,
    rekey_lifetime=86400,
    rekey_remaining=1109,
    retransmit_period=10,
    retransmit_attempts=2,
    retransmit_remaining=None,
    sequence=7,
    sas=(SaPolicyStatus(10, "bank-profile", 3600, Replay(ReplayMethod.COUNTER, 64), ACL, 710),),
    kek=KEK,
    teks=(TEK,),
    members=(REGISTERED,),
    rekeys_sent=4,
    last_rekey_retransmits=1,
    last_rekey_duration_msec=10000,
    registrations=1,
    refusals=0,
    sender_id_bits=24,
)
