"""Phase 1 from its statements: policies, keys, identities."""

from ipaddress import IPv4Address, IPv4Network

import pytest
from build_samples import good, said, wrong

from groupvpn.config import Severity, parse, running_config
from groupvpn.crypto.registry import IkeCipher, IkeGroup, IkeHash
from groupvpn.ike.policy import IdentityKind
from groupvpn.wire.iana import IdType
from groupvpn.wire.payloads import Identification


class TestPhase1:
    def test_policies_come_by_priority_with_the_routers_defaults(self) -> None:
        first, second = good("crypto isakmp policy 20\ncrypto isakmp policy 10\n encr aes 256\n group 19\n hash sha384\n").ike.policies
        assert (first.priority, first.cipher, first.group, first.hash) == (10, IkeCipher.AES_256, IkeGroup.ECP_256, IkeHash.SHA2_384)
        assert (second.priority, second.cipher, second.group, second.lifetime) == (20, IkeCipher.DES, IkeGroup.MODP_768, 86400)

    @pytest.mark.parametrize("group", [1, 2, 5, 14, 15, 16, 19, 20, 21, 24])
    def test_every_group_of_the_registry_can_be_said(self, group: int) -> None:
        assert good(f"crypto isakmp policy 1\n group {group}\n").ike.policies[0].group.number == group

    def test_weak_algorithms_are_named_once_with_something_better(self) -> None:
        text = "crypto isakmp policy 1\n encr 3des\n authentication pre-share\n"
        (warning,) = [item for item in parse(text).diagnostics if "weak" in item.message]
        assert "`encryption 3des`, `hash sha` (the default), `group 1` (the default)" in warning.message
        assert "aes 256" in warning.hint

    def test_modern_policies_are_not_warned_about(self) -> None:
        assert said("crypto isakmp policy 1\n encr aes\n hash sha256\n group 14\n authentication pre-share\n") == ""

    def test_keys_are_for_addresses_networks_and_names(self) -> None:
        text = (
            "crypto isakmp key one address 10.0.0.1\ncrypto isakmp key two address 10.0.0.0 255.255.255.0\n"
            "crypto isakmp key 0 three hostname gm.example.com no-xauth\ncrypto isakmp key any address 0.0.0.0\n"
        )
        ike = good(text).ike
        assert [key.network for key in ike.keys] == [
            IPv4Network("10.0.0.1/32"),
            IPv4Network("10.0.0.0/24"),
            None,
            IPv4Network("0.0.0.0/0"),
        ]
        assert [key.key.reveal() for key in ike.keys] == [b"one", b"two", b"three", b"any"]
        assert "2 pre-shared keys are for several peers or any (lines 2, 4): whoever knows it can take any other's place" in said(text)

    LONG = "a-long-and-random-key"

    @pytest.mark.parametrize("length", [5, 19, 20, 128])
    def test_a_short_key_is_told_by_its_length_alone(self, length: int) -> None:
        key = ("kéy" + "Z" * length)[:length]
        found = parse(f"crypto isakmp aggressive-mode disable\ncrypto isakmp key {key} address 10.0.0.1\n").diagnostics
        assert [item.message for item in found] == (
            ["this pre-shared key has fewer than 20 characters: short keys are found by guessing"] if length < 20 else []
        )
        assert all(key not in item.render() for item in found)

    def test_short_keys_are_told_in_one_line(self) -> None:
        text = "crypto isakmp aggressive-mode disable\n" + "".join(f"crypto isakmp key K address 10.0.0.{n}\n" for n in range(1, 6))
        assert said(text) == "2: 5 pre-shared keys have fewer than 20 characters (lines 2, 3, 4 …): short keys are found by guessing"
        assert said(text.replace(" K ", " ***** ")) == "", "a printed configuration may hide them so"

    @pytest.mark.parametrize(
        ("peers", "who"),
        [
            ("address 0.0.0.0", "any peer at all"),
            ("address 10.0.0.0 255.255.255.0", "several peers"),
            ("address 10.0.0.0 255.255.255.254", "several peers"),
        ],
    )
    def test_a_key_for_several_peers_is_told(self, peers: str, who: str) -> None:
        text = f"crypto isakmp aggressive-mode disable\ncrypto isakmp key {self.LONG} {peers}\n"
        assert said(text) == f"2: this key is for {who}: whoever knows it can take any other's place"

    @pytest.mark.parametrize("peers", ["address 10.0.0.1", "address 10.0.0.1 255.255.255.255", "hostname gm.example.com"])
    def test_a_long_key_for_one_peer_is_not_told(self, peers: str) -> None:
        assert said(f"crypto isakmp key {self.LONG} {peers}\n") == ""

    @pytest.mark.parametrize("key", ["K address 10.0.0.1", f"{LONG} address 10.0.0.0 255.0.0.0"])
    def test_aggressive_mode_with_a_key_that_can_be_guessed_is_told_once(self, key: str) -> None:
        text = f"crypto isakmp key {self.LONG} address 10.9.9.9\ncrypto isakmp key {key}\ncrypto isakmp key K address 10.0.0.9\n"
        assert said(text).count("2: whoever asks for aggressive mode") == 1
        assert "aggressive" not in said(text + "crypto isakmp aggressive-mode disable\n")
        peer = "crypto isakmp peer address 10.0.0.1\n set aggressive-mode {}\n"
        for line in ("password K", "client-endpoint fqdn gm"):
            assert "whoever asks" not in said(text + peer.format(line)), "which wants aggressive mode"

    def test_a_key_that_is_digits_or_a_keyword_is_still_a_key(self) -> None:
        keys = good("crypto isakmp key 6 address 10.0.0.1\ncrypto isakmp key address address 10.0.0.2\n").ike.keys
        assert [key.key.reveal() for key in keys] == [b"6", b"address"]

    def test_the_last_key_for_a_peer_counts(self) -> None:
        (key,) = good("crypto isakmp key one address 10.0.0.1\ncrypto isakmp key two address 10.0.0.1\n").ike.keys
        assert key.key.reveal() == b"two"

    @pytest.mark.parametrize(
        ("peer", "same"),
        [
            ("address 0.0.0.0 0.0.0.0", "address 0.0.0.0"),
            ("address 10.0.0.1", "address 10.0.0.1 255.255.255.255"),
            ("address 10.0.0.0 255.255.255.0", "address 10.0.0.7 255.255.255.0"),
            ("address 10.0.0.1 255.0.0.0", "address 10.0.0.1 255.0.0.0 no-xauth"),
            ("hostname gm.example.com", "hostname GM.Example.com"),
        ],
    )
    def test_the_peers_of_a_key_are_the_same_however_they_are_spelled(self, peer: str, same: str) -> None:
        for first, second in ((peer, same), (same, peer)):
            (key,) = good(f"crypto isakmp key OLD {first}\ncrypto isakmp key NEW {second}\n").ike.keys
            assert key.key.reveal() == b"NEW"
            assert good(f"crypto isakmp key OLD {first}\nno crypto isakmp key OLD {second}\n").ike.keys == ()

    def test_keys_for_other_peers_stay(self) -> None:
        text = "crypto isakmp key A address 10.0.0.0 255.255.255.0\ncrypto isakmp key B address 10.0.0.0\ncrypto isakmp key C hostname gm\n"
        assert len(good(text).ike.keys) == 3
        assert len(good(text + "no crypto isakmp key B address 10.0.0.0\n").ike.keys) == 2

    def test_encrypted_keys_are_refused(self) -> None:
        assert "master key" in wrong("crypto isakmp key 6 ABCDEF address 10.0.0.1\n")

    def test_identity_keepalive_and_name(self) -> None:
        text = "hostname gm\nip domain name example.com\ncrypto isakmp identity hostname\ncrypto isakmp keepalive 30 5\n"
        ike = good(text).ike
        assert (ike.identity, ike.hostname) == (IdentityKind.HOSTNAME, "gm.example.com")
        assert ike.keepalive is not None
        assert (ike.keepalive.seconds, ike.keepalive.retry_interval, ike.keepalive.periodic) == (30, 5, False)

    def test_aggressive_mode_by_peer(self) -> None:
        text = (
            "crypto isakmp peer ip-address 10.0.0.1\n set aggressive-mode client-endpoint fqdn gm.example.com\n"
            " set aggressive-mode password secret\n"
        )
        ike = good(text).ike
        assert ike.client_endpoint(IPv4Address("10.0.0.1")) == Identification(IdType.FQDN, b"gm.example.com")
        assert ike.client_endpoint(IPv4Address("10.0.0.2")) is None
        assert ike.preshared_key(IPv4Address("10.0.0.1")) is not None
        assert "guess at the key" in said(text)

    def test_aggressive_mode_may_be_refused_altogether(self) -> None:
        text = "crypto isakmp aggressive-mode disable\n"
        assert good(text).ike.refuses_aggressive
        assert not good(text + "no crypto isakmp aggressive-mode disable\n").ike.refuses_aggressive
        assert not said(text, Severity.NOTICE)
        text += "crypto isakmp peer address 10.0.0.1\n set aggressive-mode client-endpoint fqdn gm.example.com\n"
        assert "begins with main mode" in said(text)
        assert "guess at the key" not in said(text)

    @pytest.mark.parametrize(
        ("words", "identity"),
        [
            ("ipv4-address 10.0.0.9", Identification.ipv4(IPv4Address("10.0.0.9"))),
            ("fqdn gm.example.com", Identification(IdType.FQDN, b"gm.example.com")),
            ("user-fqdn bob@example.com", Identification(IdType.USER_FQDN, b"bob@example.com")),
        ],
    )
    def test_the_identity_of_aggressive_mode(self, words: str, identity: Identification) -> None:
        configuration = good(f"crypto isakmp peer address 10.0.0.1\n set aggressive-mode client-endpoint {words}\n")
        assert configuration.ike.client_endpoint(IPv4Address("10.0.0.1")) == identity
        assert good(running_config(configuration)) == configuration

    def test_a_users_name_is_printable(self) -> None:
        assert "not a user's name" in wrong("crypto isakmp peer address 10.0.0.1\n set aggressive-mode client-endpoint user-fqdn bö@x\n")

    def test_the_password_of_a_peer_goes_before_a_key_for_its_address(self) -> None:
        text = "crypto isakmp key K address 10.0.0.1\ncrypto isakmp peer address 10.0.0.1\n set aggressive-mode password PEERKEY\n"
        key = good(text).ike.preshared_key(IPv4Address("10.0.0.1"))
        assert key is not None
        assert key.reveal() == b"PEERKEY"
