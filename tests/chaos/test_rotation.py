"""Certificates, policy and log levels of real processes change under a mixed load by mutual TLS: no call fails."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from grpc import StatusCode, aio

from maas.admin.v1 import admin_service_pb2 as admin
from maas.admin.v1.admin_service_pb2_grpc import AdminServiceStub
from maas.tokenization.v1.tokenization_service_pb2 import CountTokensRequest
from maas.tokenization.v1.tokenization_service_pb2_grpc import TokenizationServiceStub
from services.runtime.store.store import ModelStore
from tests.chaos.asks import asks, composed
from tests.chaos.callers import Callers
from tests.chaos.cell import load
from tests.chaos.guarded import Guarded, guarded
from tests.chaos.stack import AREAS
from tests.chaos.tally import ENDINGS, Tally

pytestmark = pytest.mark.models

TURNS, TURN_S, WITHIN_S, WORKERS = 2, 12.0, 60.0, 6
GUESTS = '[[allow]]\nroles = ["guest"]\nmethods = ["*/CountTokens"]\n'
LOGGER = "maas.call"


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_everything_is_rotated_under_load_and_no_call_fails(tmp_path: Path, model_store: ModelStore) -> None:
    draw = random.Random(5)
    async with guarded(tmp_path, model_store) as at, at.channel("caller", at.gateway) as channel:
        callers = Callers(channel, AREAS, [*asks(AREAS, draw), *composed(AREAS, draw)], draw)
        await callers.learn()
        async with load(callers, WORKERS) as tally, newcomers(at) as others:
            for turn in range(TURNS):
                begun = time.monotonic()
                await _rotated(at, turn)
                await asyncio.sleep(max(0.0, begun + TURN_S - time.monotonic()))
        for one in (tally, others):
            print(f"{sum(one.sent.values())} sent, " + ", ".join(f"{one.count(end)} {end}" for end in ENDINGS))
            assert not one.trouble and not one.resumed, "\n".join(one.trouble[:20])
            assert one.adds_up() and one.count("answered") > 20


async def _rotated(at: Guarded, turn: int) -> None:
    """Returns once every process shows its new certificate, took each policy, and each level there and back."""
    before = await at.serials()
    await at.maas("certs", "server", f"--directory={at.folder / 'certs'}")
    await _until(partial(_all_new, at, before))
    told = [f"turn {turn}: every process shows a new certificate"]
    for rules, wanted in ((GUESTS, StatusCode.OK), ("", StatusCode.PERMISSION_DENIED)):
        at.allow(rules)
        await _until(partial(_guest_hears, at, wanted))
        told.append(f"guests hear {wanted.name}")
    for word, level in (("debug", admin.LOG_LEVEL_DEBUG), ("usual", admin.LOG_LEVEL_INFO)):
        where = f"--address=127.0.0.1:{at.gateway.port}"
        await at.maas("loglevel", word, f"--logger={LOGGER}", "--service=all", where)
        await _until(partial(_all_log, at, level))
        told.append(f"all log from {word}")
    print(", ".join(told), flush=True)


@asynccontextmanager
async def newcomers(at: Guarded) -> AsyncIterator[Tally]:
    """A caller that connects anew for every call, through all that changes."""
    tally, over = Tally(), asyncio.Event()

    async def work() -> None:
        while not over.is_set():
            await tally.end("newcomer", lambda: _counted(at, "caller"), WITHIN_S)

    running = asyncio.create_task(work())
    try:
        yield tally
    finally:
        over.set()
        await running


async def _counted(at: Guarded, name: str) -> str:
    async with at.channel(name, at.gateway) as channel:
        reply = await TokenizationServiceStub(channel).CountTokens(CountTokensRequest(texts=["two"]), timeout=20)
    assert list(reply.counts) == [1], reply
    return "answered"


async def _guest_hears(at: Guarded, wanted: StatusCode) -> bool:
    try:
        await _counted(at, "guest")
    except aio.AioRpcError as error:
        assert error.code() is StatusCode.PERMISSION_DENIED, error
        return wanted is error.code()
    return wanted is StatusCode.OK


async def _all_new(at: Guarded, before: list[int]) -> bool:
    return all(new != old for new, old in zip(await at.serials(), before, strict=True))


async def _all_log(at: Guarded, level: admin.LogLevel) -> bool:
    """Asked of each process itself."""
    found = []
    for server in at.servers:
        async with at.channel("admin", server) as channel:
            told = await AdminServiceStub(channel).GetLogLevel(admin.GetLogLevelRequest(logger=LOGGER), timeout=20)
            found += [one.level for one in told.levels if one.logger == LOGGER]
    return found == [level] * len(at.servers)


async def _until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not await true():
            await asyncio.sleep(0.1)
