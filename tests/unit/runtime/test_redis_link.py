"""A link to Redis and who cancels its users."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from services.runtime.breaker import Breaker
from services.runtime.redis_link import NoAnswer, RedisLink


@pytest.mark.parametrize("ends", ["answers", "fails"])
async def test_a_cancellation_that_the_client_forgets_is_raised_all_the_same(ends: str) -> None:
    asked = asyncio.Event()

    async def forgetful(client: Any) -> str:
        asked.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        if ends == "fails":
            raise ConnectionError
        return "found"

    link = RedisLink("redis://127.0.0.1:1", 5, 5, Breaker(100, 60), lambda: None)
    asking = asyncio.create_task(link.ask(forgetful))
    await asked.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_a_wait_that_takes_too_long_is_no_cancellation() -> None:
    async def slow(client: Any) -> None:
        await asyncio.sleep(60)

    link = RedisLink("redis://127.0.0.1:1", 0.01, 0.01, Breaker(100, 60), lambda: None)
    with pytest.raises(NoAnswer):
        await link.ask(slow)
    assert not asyncio.current_task().cancelling()  # type: ignore[union-attr]
