"""Sealed values: what opens, what does not, and that nothing of them is told."""

from base64 import b64encode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sealed_cache import SealedCache
from services.runtime.sealing import HEAD_BYTES, Sealer, keys_of

NEW, OLD = bytes(range(32)), bytes(range(32, 64))
NAME = "maas:v1:{0011}"


class Store:
    """Redis as a dictionary."""

    broken = False

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    async def set(self, key: str, value: bytes, life_s: float) -> None:
        self.values[key] = value

    async def close(self) -> None:
        """Nothing to close."""


@given(st.binary(max_size=300), st.text(max_size=40))
def test_what_is_sealed_opens_and_shows_nothing(plain: bytes, name: str):
    sealed = Sealer([NEW]).seal(name, plain)
    assert Sealer([NEW]).open(name, sealed) == plain
    assert len(plain) < 8 or plain not in sealed
    assert Sealer([NEW]).seal(name, plain) != sealed


@given(st.binary(max_size=64), st.data())
def test_a_changed_byte_or_a_cut_does_not_open(plain: bytes, data: st.DataObject):
    sealed = bytearray(Sealer([NEW]).seal(NAME, plain))
    assert Sealer([NEW]).open(NAME, bytes(sealed[: data.draw(st.integers(0, len(sealed) - 1))])) is None
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    assert Sealer([NEW]).open(NAME, bytes(sealed)) is None


@given(st.binary(max_size=80))
def test_foreign_bytes_do_not_open(data: bytes):
    assert Sealer([NEW, OLD]).open(NAME, data) is None


def test_a_value_opens_under_its_own_name_and_key_only():
    sealed = Sealer([NEW]).seal(NAME, b"reply")
    assert Sealer([NEW]).open("maas:v1:{0012}", sealed) is None
    assert Sealer([OLD]).open(NAME, sealed) is None


def test_rotation_seals_with_the_first_and_opens_with_both():
    before = Sealer([OLD]).seal(NAME, b"reply")
    rotating = Sealer([NEW, OLD])
    assert rotating.open(NAME, before) == b"reply"
    assert Sealer([NEW]).open(NAME, rotating.seal(NAME, b"reply")) == b"reply"
    assert Sealer([OLD]).open(NAME, rotating.seal(NAME, b"reply")) is None


def test_keys_that_share_an_id_byte_both_open():
    first = Sealer([NEW]).seal(NAME, b"")[1]
    twin = next(
        key for key in (n.to_bytes(32) for n in range(10_000)) if Sealer([key]).seal(NAME, b"")[1] == first
    )
    assert Sealer([NEW, twin]).open(NAME, Sealer([twin]).seal(NAME, b"reply")) == b"reply"


def test_nonces_do_not_repeat():
    sealer = Sealer([NEW])
    assert len({sealer.seal(NAME, b"")[2:HEAD_BYTES] for _ in range(1000)}) == 1000


async def test_what_does_not_open_is_a_counted_miss():
    store, counted = Store(), []
    cache = SealedCache(store, Sealer([NEW]), lambda: counted.append(1))
    await cache.set(NAME, b"reply", 1)
    assert b"reply" not in store.values[NAME]
    assert await cache.get(NAME) == b"reply" and not counted
    store.values |= {"moved": store.values[NAME], "plain": b"\x01reply", "empty": b""}
    assert [await cache.get(key) for key in ("moved", "plain", "empty", "absent")] == [None] * 4
    assert len(counted) == 3


@pytest.mark.parametrize(
    "spell", [bytes.hex, lambda k: b64encode(k).decode(), lambda k: urlsafe_b64encode(k)[:43].decode()]
)
def test_keys_in_hex_and_base64(spell):
    assert keys_of(spell(NEW)) == (NEW,)
    assert keys_of(f"{spell(NEW)}, {spell(OLD)}") == (NEW, OLD)


@pytest.mark.parametrize(
    "text", ["", "secret", NEW.hex()[:-2], "é" * 64, f"{NEW.hex()},", ",".join([NEW.hex()] * 3)]
)
def test_bad_keys_are_refused_and_not_repeated(text: str):
    with pytest.raises(ValueError) as caught:
        keys_of(text)
    assert not text or text not in str(caught.value)
