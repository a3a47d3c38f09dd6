"""Transform sets and profiles from their statements."""

import pytest
from build_samples import good, said

from groupvpn.config import parse, running_config
from groupvpn.crypto.registry import EspCipher, EspIntegrity
from groupvpn.ipsec.transform import Mode, SecurityProtocol, Transform


class TestTransforms:
    @pytest.mark.parametrize(
        ("words", "cipher", "integrity"),
        [
            ("esp-aes esp-sha256-hmac", EspCipher.AES_128_CBC, EspIntegrity.HMAC_SHA2_256_128),
            ("esp-sha-hmac esp-aes 192", EspCipher.AES_192_CBC, EspIntegrity.HMAC_SHA1_96),
            ("esp-aes 256 esp-sha512-hmac", EspCipher.AES_256_CBC, EspIntegrity.HMAC_SHA2_512_256),
            ("esp-3des esp-md5-hmac", EspCipher.TRIPLE_DES, EspIntegrity.HMAC_MD5_96),
            ("esp-null esp-sha384-hmac", EspCipher.NULL, EspIntegrity.HMAC_SHA2_384_192),
            ("esp-256-aes esp-sha", EspCipher.AES_256_CBC, EspIntegrity.HMAC_SHA1_96),
            ("esp-gcm", EspCipher.AES_128_GCM, EspIntegrity.NONE),
            ("esp-gcm 128", EspCipher.AES_128_GCM, EspIntegrity.NONE),
            ("esp-gcm 256", EspCipher.AES_256_GCM, EspIntegrity.NONE),
            ("esp-gcm 192 icv 12", EspCipher.AES_192_GCM_12, EspIntegrity.NONE),
            ("esp-gmac", EspCipher.AES_128_GMAC, EspIntegrity.NONE),
            ("esp-gmac 256", EspCipher.AES_256_GMAC, EspIntegrity.NONE),
            ("esp-ctr 192 esp-sha256-hmac", EspCipher.AES_192_CTR, EspIntegrity.HMAC_SHA2_256_128),
        ],
    )
    def test_transforms(self, words: str, cipher: EspCipher, integrity: EspIntegrity) -> None:
        transform = good(f"crypto ipsec transform-set t {words}\n mode transport\n").transform_sets["t"].transform
        assert (transform.cipher, transform.integrity, transform.mode) == (cipher, integrity, Mode.TRANSPORT)

    @pytest.mark.parametrize(
        ("words", "mend"),
        [
            ("esp-aes", "add `esp-sha256-hmac`, or use `esp-gcm`"),
            ("esp-ctr 256", "add `esp-sha256-hmac`"),
            ("esp-null", "add `esp-sha256-hmac`"),
            ("esp-sha-hmac", "or `esp-null` to authenticate without encryption"),
            ("esp-gcm esp-sha-hmac", "remove `esp-sha-hmac`"),
            ("esp-gmac 192 esp-md5-hmac", "remove `esp-md5-hmac`"),
            ("esp-aes esp-3des esp-sha-hmac", "make a second transform set"),
            ("esp-sha-hmac esp-md5-hmac esp-aes", "make a second transform set"),
            ("ah-md5-hmac ah-sha-hmac", "make a second transform set"),
        ],
    )
    def test_what_makes_no_transform_is_refused_with_its_mend(self, words: str, mend: str) -> None:
        result = parse(f"crypto ipsec transform-set t {words}\n", "test.conf")
        (error,) = result.errors
        assert error.line == 1
        assert mend in error.hint

    @pytest.mark.parametrize(
        ("words", "mend"),
        [
            ("esp-seal esp-sha-hmac", "use `esp-ctr 256`"),
            ("esp-rfc1829", "use `esp-aes`"),
            ("ah-rfc1828 esp-des", "use `ah-sha256-hmac`"),
            ("esp-aes esp-sha-hmac comp-lzs", "leave the word out"),
            ("ah-sha-hmac esp-aes", "write `esp-sha-hmac` for `ah-sha-hmac`"),
            ("ah-sha-hmac esp-des esp-md5-hmac", "write `esp-sha-hmac` for `ah-sha-hmac`"),
        ],
    )
    def test_what_is_not_supported_is_left_out_with_a_mend(self, words: str, mend: str) -> None:
        result = parse(f"crypto ipsec transform-set t {words}\n", "test.conf")
        assert result.configuration is not None
        assert result.configuration.transform_sets == {}
        assert mend in "".join(item.hint for item in result.diagnostics)

    @pytest.mark.parametrize("integrity", [item for item in EspIntegrity if item is not EspIntegrity.NONE])
    def test_ah_stands_alone(self, integrity: EspIntegrity) -> None:
        transform = good(f"crypto ipsec transform-set t {integrity.ah_keyword}\n").transform_sets["t"].transform
        assert transform == Transform(EspCipher.NULL, integrity, Mode.TUNNEL, SecurityProtocol.AH)
        assert transform.keywords == integrity.ah_keyword

    def test_every_transform_is_printed_as_it_is_read(self) -> None:
        lines = [f"{cipher.keyword} {integrity.keyword}" for cipher in EspCipher for integrity in EspIntegrity]
        wanted = [line.strip() for line in lines if parse(f"crypto ipsec transform-set t {line}\n", "t").configuration is not None]
        assert len(wanted) == 12 + 9 * 5, "GCM and GMAC alone, the others with five integrity algorithms"
        text = "".join(f"crypto ipsec transform-set t{number} {line}\n" for number, line in enumerate(wanted))
        before = good(text)
        assert len({item.transform for item in before.transform_sets.values()}) == len(wanted)
        assert good(running_config(before)).transform_sets == before.transform_sets

    def test_profiles_keep_the_order_of_their_sets(self) -> None:
        sets = "crypto ipsec transform-set a esp-gcm\ncrypto ipsec transform-set b esp-gcm 256\n"
        text = sets + "crypto ipsec profile p\n set transform-set b a x\n"
        profile = good(text).profiles["p"]
        assert [item.name for item in profile.transform_sets] == ["b", "a"]
        assert profile.lifetime == 3600
        assert "transform set `x`, which does not exist" in said(text)
