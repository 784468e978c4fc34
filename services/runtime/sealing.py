"""Seals what leaves for Redis: who can read or write there learns and forges nothing. Knows no Redis."""

import binascii
import secrets
from base64 import b64decode
from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2b

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES, NONCE_BYTES, TAG_BYTES = 32, 12, 16
MOST_KEYS = 2
# First byte of a sealed value; plain ones begin with another.
FORM = 2
HEAD_BYTES = 2 + NONCE_BYTES


def keys_of(text: str) -> tuple[bytes, ...]:
    """One key or two, separated by a comma, each 32 bytes in base64 or hex: the first seals, all open.

    Raises ValueError, which never holds the text.
    """
    keys = tuple(map(_key_of, text.split(",")))
    if len(keys) > MOST_KEYS:
        raise ValueError(f"{len(keys)} keys given; at most {MOST_KEYS}: the new one, then the old one")
    return keys


def _key_of(text: str) -> bytes:
    text = text.strip()
    try:
        padded = text + "=" * (-len(text) % 4)
        key = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else b64decode(padded, b"-_", validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key is {KEY_BYTES} bytes in base64 or hex, as `openssl rand -base64 32` makes it")
    return key


class Sealer:
    """AES-256-GCM (NIST SP 800-38D) with a random 96-bit nonce; the value's name is the associated data.

    Every name has an encryption key of its own, derived by keyed BLAKE2b (RFC 7693): the 2³² values that
    random nonces allow one key (SP 800-38D, 8.3) then bound the rewrites of one value, not all writes of a fleet.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = tuple((_id_of(key), key) for key in keys)

    def seal(self, name: str, plain: bytes) -> bytes:
        """form byte, key id byte, nonce, ciphertext with its tag."""
        key_id, key = self._keys[0]
        head, nonce = bytes((FORM, key_id)), secrets.token_bytes(NONCE_BYTES)
        return head + nonce + _cipher(key, name).encrypt(nonce, plain, head + name.encode())

    def open(self, name: str, sealed: bytes) -> bytes | None:
        """The plain value; None unless it was sealed under `name` with one of the keys and is unchanged."""
        if len(sealed) < HEAD_BYTES + TAG_BYTES or sealed[0] != FORM:
            return None
        nonce, body = sealed[2:HEAD_BYTES], sealed[HEAD_BYTES:]
        for key in (key for key_id, key in self._keys if key_id == sealed[1]):
            with suppress(InvalidTag):
                return _cipher(key, name).decrypt(nonce, body, sealed[:2] + name.encode())
        return None


def _id_of(key: bytes) -> int:
    """Tells keys apart without telling them: one byte of a hash."""
    return blake2b(key, digest_size=1, person=b"maas-cache-id").digest()[0]


def _cipher(key: bytes, name: str) -> AESGCM:
    return AESGCM(blake2b(name.encode(), key=key, digest_size=KEY_BYTES, person=b"maas-cache").digest())
