"""CBC: NIST's examples for AES and 3DES, FIPS 81's for DES, and what is refused."""

import pytest

from groupvpn.crypto import cbc
from groupvpn.crypto.registry import IkeCipher, KekCipher
from groupvpn.crypto.secret import Secret

NIST_PLAIN = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
EXAMPLES = {
    # NIST SP 800-38A F.2
    IkeCipher.AES_128: ("2b7e151628aed2a6abf7158809cf4f3c", "000102030405060708090a0b0c0d0e0f", NIST_PLAIN,
                        "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2"),
    IkeCipher.AES_192: ("8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b", "000102030405060708090a0b0c0d0e0f", NIST_PLAIN,
                        "4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a"),
    IkeCipher.AES_256: ("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", "000102030405060708090a0b0c0d0e0f", NIST_PLAIN,
                        "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d"),
    # FIPS 81 appendix C: "Now is the time for all "
    IkeCipher.DES: ("0123456789abcdef", "1234567890abcdef", "4e6f77206973207468652074696d6520666f7220616c6c20",
                    "e5c7cdde872bf27c43e934008c389c0f683788499a7c05f6"),
}  # fmt: skip


@pytest.mark.parametrize("cipher", EXAMPLES, ids=lambda item: item.name)
def test_published_examples(cipher: IkeCipher) -> None:
    key, iv, plain, secret = (bytes.fromhex(text) for text in EXAMPLES[cipher])
    assert cbc.encrypt(cipher, Secret(key), iv, plain) == secret
    assert cbc.decrypt(cipher, Secret(key), iv, secret) == plain


def test_three_equal_keys_make_triple_des_single() -> None:
    key, iv, plain, secret = (bytes.fromhex(text) for text in EXAMPLES[IkeCipher.DES])
    assert cbc.encrypt(IkeCipher.TRIPLE_DES, Secret(key * 3), iv, plain) == secret


@pytest.mark.parametrize("cipher", [*IkeCipher, *KekCipher], ids=lambda item: f"{type(item).__name__}.{item.name}")
def test_there_and_back(cipher: IkeCipher | KekCipher) -> None:
    key, iv = Secret(bytes(range(1, cipher.key_length + 1))), bytes(cipher.block_length)
    for length in (1, cipher.block_length, 100):
        padded = cbc.pad(cipher, b"x" * length)
        assert len(padded) % cipher.block_length == 0
        assert len(padded) - length < cipher.block_length
        assert cbc.decrypt(cipher, key, iv, cbc.encrypt(cipher, key, iv, padded)) == padded
        assert padded.rstrip(b"\x00") == b"x" * length


@pytest.mark.parametrize("operation", [cbc.encrypt, cbc.decrypt])
@pytest.mark.parametrize("length", [0, 1, 15, 17])
def test_broken_blocks_are_refused(operation: object, length: int) -> None:
    with pytest.raises(cbc.BlockLengthError, match=f"{length} octets"):
        operation(IkeCipher.AES_128, Secret(bytes(16)), bytes(16), bytes(length))  # type: ignore[operator]


def test_a_key_of_the_wrong_length_is_refused_without_showing_it() -> None:
    with pytest.raises(ValueError, match="takes 16 octets of key, not 5") as refusal:
        cbc.encrypt(IkeCipher.AES_128, Secret(b"abcde"), bytes(16), bytes(16))
    assert "abcde" not in str(refusal.value)
