"""Who waits for a service that is down, and how long."""

import asyncio

import pytest

from gateway import uptime
from gateway.uptime import GRACE_S, Uptime
from tests.clock import Clock


async def test_what_was_never_heard_of_is_not_waited_for() -> None:
    await Uptime().soon()


async def test_what_is_up_is_not_waited_for() -> None:
    found = Uptime()
    found.say(True)
    await found.soon()


async def test_what_was_lost_a_moment_ago_is_waited_for() -> None:
    found = Uptime(Clock())
    found.say(True)
    found.say(False)
    waiting = asyncio.create_task(found.soon())
    await asyncio.sleep(0)
    assert not waiting.done()
    found.say(True)
    await waiting


async def test_the_grace_counts_from_the_loss_and_not_from_the_last_word() -> None:
    clock = Clock()
    found = Uptime(clock)
    found.say(False)
    clock.now += GRACE_S
    found.say(False)
    await found.soon()


async def test_the_wait_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uptime, "GRACE_S", 0.01)
    found = Uptime()
    found.say(False)
    async with asyncio.timeout(5):
        await found.soon()
