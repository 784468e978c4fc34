"""The stored form: what goes in comes out, and nothing else does."""

import os

import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gateway.entry import Entry, pack, unpack

LIMIT = 1 << 20
replies = st.binary(max_size=64) | st.integers(4096, 20_000).map(lambda size: b"ab" * size)


@given(replies, st.text(max_size=8))
def test_round_trip(reply: bytes, key: str):
    entry = Entry(reply, 12.5, 99.25, 0.5)
    assert unpack(key, pack(key, entry), LIMIT) == entry


def test_large_answers_are_compressed_where_that_helps():
    assert len(pack("k", Entry(b"ab" * 8192, 0, 1))) < 1000
    noise = os.urandom(8192)
    assert len(pack("k", Entry(noise, 0, 1))) < len(noise) + 64


@given(replies, st.data())
def test_a_changed_byte_is_seen(reply: bytes, data: st.DataObject):
    packed = bytearray(pack("k", Entry(reply, 1.0, 2.0)))
    # The times are not answers; all else is sealed.
    place = data.draw(st.sampled_from([0, *range(26, len(packed))]))
    packed[place] ^= data.draw(st.integers(1, 255))
    found = unpack("k", bytes(packed), LIMIT)
    assert found is None or found.reply == reply


@given(st.binary(max_size=60))
def test_foreign_bytes_are_a_miss(data: bytes):
    assert unpack("k", data, LIMIT) is None


def test_another_keys_answer_is_a_miss():
    assert unpack("mine", pack("yours", Entry(b"reply", 0, 1)), LIMIT) is None


def test_a_bomb_is_not_inflated():
    entry = Entry(bytes(64 << 20), 0.0, 1.0)
    packed = pack("k", entry)
    assert len(packed) < 10_000
    assert unpack("k", packed, LIMIT) is None
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(entry.reply)
    assert unpack("k", packed[:34] + unsized, LIMIT) is None
