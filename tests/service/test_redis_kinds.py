"""The link to Redis at real servers: one with users, behind TLS, a cluster, and a master behind sentinels."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.redis_cache import RedisCache
from services.runtime.breaker import Breaker
from services.runtime.redis_link import NoAnswer, RedisLink
from tests.redis_servers import HOST, Server, behind_tls, cluster, servers, watched

USERS = "--user cache on >s%cret ~maas:* +@all -@admin -@dangerous --user default off"


@asynccontextmanager
async def linked(url: str) -> AsyncIterator[RedisLink]:
    """Patient: what is slow on a busy machine is no fault here."""
    link = RedisLink(url, 5, 5, Breaker(100, 60), lambda: None)
    try:
        yield link
    finally:
        await link.close()


async def works(link: RedisLink, keys: int = 20) -> None:
    """What caches, sessions and streams ask of it, from many at once, and a flush of it all."""
    cache = RedisCache(link)
    names = [f"maas:v1:answer:a:b:{{{number}}}" for number in range(keys)]
    await asyncio.gather(*(cache.set(name, name.encode(), 60) for name in names))
    assert await asyncio.gather(*map(cache.get, names)) == [name.encode() for name in names]
    script = "redis.call('HSET', KEYS[1], 'a', ARGV[1]); return redis.call('HGETALL', KEYS[1])"
    assert await link.ask(lambda redis: redis.eval(script, 1, "maas:v1:stream:{x}:1", "b")) == [b"a", b"b"]
    assert await link.ask(lambda redis: redis.hgetall("maas:v1:stream:{x}:1")) == {b"a": b"b"}
    assert await cache.flush("maas:v1:answer:*") == keys
    assert await asyncio.gather(*map(cache.get, names)) == [None] * keys
    epoch = await cache.epoch()
    assert await cache.advance() == epoch + 1


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with servers(tmp_path_factory.mktemp("one"), *USERS.split()) as (server,):
        yield server


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    with cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


async def test_a_user_of_its_own(one: Server):
    async with linked(f"redis://cache:s%25cret@{one.address}") as link:
        await works(link)
        with pytest.raises(NoAnswer):
            await link.command("GET", "theirs")
        assert await link.command("GET", "maas:none") is None
    for who in ("", "cache:wrong@", ":s%25cret@"):
        async with linked(f"redis://{who}{one.address}") as link:
            with pytest.raises(NoAnswer):
                await link.command("GET", "maas:none")


async def test_tls_and_whom_it_trusts(one: Server, tmp_path: Path):
    async with behind_tls(tmp_path, one) as (port, authority):
        url = f"rediss://cache:s%25cret@{HOST}:{port}"
        async with linked(f"{url}?ssl_ca_certs={authority}") as link:
            await works(link)
            big = os.urandom(3_000_000)
            await link.command("SET", "maas:big", big)
            assert await link.command("GET", "maas:big") == big
        async with linked(url) as link:
            with pytest.raises(NoAnswer):
                await link.command("GET", "maas:none")


async def test_a_cluster_is_one_cache(three: list[Server]):
    async with linked(f"redis+cluster://{three[1].address}") as link:
        await works(link, keys=600)
        assert len(await link.nodes()) == 3


async def test_keys_that_move_are_found_where_they_went(three: list[Server]):
    """First while the slot is on its way (ASK), then when it has arrived (MOVED)."""
    key = "maas:{moving}"
    async with linked(f"redis+cluster://{three[0].address},{three[1].address}") as link:
        await link.command("SET", key, "1")
        slot = three[0].ask("CLUSTER KEYSLOT", key)
        old = next(node for node in three if _holds(node, slot))
        new = next(node for node in three if node is not old)
        ids = {node: node.ask("CLUSTER MYID").decode() for node in (old, new)}
        new.ask("CLUSTER SETSLOT", slot, "IMPORTING", ids[old])
        old.ask("CLUSTER SETSLOT", slot, "MIGRATING", ids[new])
        old.ask("MIGRATE", HOST, new.port, key, 0, 5000)
        assert await link.command("GET", key) == b"1"
        for one in (new, old):
            one.ask("CLUSTER SETSLOT", slot, "NODE", ids[new])
        assert await link.command("GET", key) == b"1"
        await link.command("SET", key, "2")
        assert await link.command("GET", key) == b"2"


@pytest.mark.slow
async def test_a_node_that_hangs_does_not_hold_the_keys_of_the_others(three: list[Server]):
    link = RedisLink(f"redis+cluster://{three[0].address}", 0.2, 0.05, Breaker(5, 1), lambda: None)
    keys = [f"maas:{{{number}}}" for number in range(60)]
    async with linked(f"redis+cluster://{three[0].address}") as patient:
        for key in keys:
            await patient.command("SET", key, key)
    os.kill(three[2].process.pid, signal.SIGSTOP)
    try:
        found = []
        for key in keys * 2:
            try:
                found.append(await link.command("GET", key))
            except NoAnswer:
                found.append(None)
        assert [one for one, key in zip(found, keys * 2, strict=True) if one not in (None, key.encode())] == []
        # Two thirds of the keys are elsewhere; once known to hang, the third is not waited for.
        assert sum(one is not None for one in found[60:]) > 30
    finally:
        os.kill(three[2].process.pid, signal.SIGCONT)
    async with asyncio.timeout(20):
        while await _missing(link, keys):
            await asyncio.sleep(0.1)
    await link.close()


async def test_sentinels_say_who_is_master_now(tmp_path: Path):
    with watched(tmp_path, sentinels=1) as ((master, replica), (sentinel,)):
        link = RedisLink(
            f"redis+sentinel://{HOST}:1,{sentinel.address}/main", 1, 0.2, Breaker(5, 0.2), lambda: None
        )
        await works(link)
        with replica.client() as client:
            assert client.get("maas:flushes") == b"1"
        master.process.kill()
        began = time.monotonic()
        async with asyncio.timeout(30):
            while not await _took(link):
                await asyncio.sleep(0.02)
        with replica.client() as client:
            assert client.get("maas:after") == b"1" and client.info("replication")["role"] == "master"
            promoted_at = time.monotonic()
        assert began < promoted_at
        await link.close()


async def _took(link: RedisLink) -> bool:
    try:
        return await link.command("SET", "maas:after", "1") == b"OK"
    except NoAnswer:
        return False


async def _missing(link: RedisLink, keys: list[str]) -> bool:
    try:
        return None in [await link.command("GET", key) for key in keys]
    except NoAnswer:
        return True


def _holds(node: Server, slot: int) -> bool:
    shares = node.ask("CLUSTER SLOTS")
    return any(first <= slot <= last and port == node.port for first, last, (_, port, *_), *_ in shares)
