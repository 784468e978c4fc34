"""Which request goes first, and which version answers."""

import asyncio
from typing import Any

import pytest

from maas.generation.v1 import generation_service_pb2 as service_pb
from services.runtime.store.store import ModelStore
from tests.service.generation import NAMED, TEXT, Ask, Served, free, idle, publish


@pytest.mark.parametrize("overrides", [{"batch_sequences": 1}])
async def test_a_higher_priority_goes_first(served: Served) -> None:
    """One sequence runs at a time; of those that wait, the last to come is the most urgent."""
    ended: list[Any] = []
    await idle(served.engine)

    async def ask(name: Any, tokens: int, **fields: int) -> service_pb.GenerateResponse:
        reply = await served.stub.Generate(Ask(text=TEXT, stopping=free(tokens), **fields))
        ended.append(name)
        return reply

    async with asyncio.TaskGroup() as group, asyncio.timeout(30):
        group.create_task(ask("running", 150, priority=100))
        while not served.engine.busy:
            await asyncio.sleep(0)
        for priority in (None, -5, 7):
            group.create_task(ask(priority, 3, **({} if priority is None else {"priority": priority})))
    assert ended == ["running", 7, None, -5]


async def test_a_version_is_the_one_that_answers(served: Served, store: ModelStore) -> None:
    publish(store, "pair", **NAMED)
    publish(store, "pair", **NAMED)
    for version in ("1", "2"):
        await served.host.load("pair", version)
        reply = await served.stub.Generate(Ask(model="pair", version=version, text=TEXT, stopping=free(1)))
        assert reply.served_by.version == version
