"""Levels of loggers: whose they are, when they fall back, how workers hear of them."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.runtime.admin.levels import AUDIT, Levels
from services.runtime.errors import InvalidInput, NotFound

log = logging.getLogger("maas.unit.levels")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    log.setLevel(logging.NOTSET)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_level_holds_for_its_time_and_falls_back_to_what_was_before() -> None:
    clock = Clock()
    levels = Levels(clock=clock)
    log.setLevel(logging.WARNING)
    await levels.set(log.name, logging.DEBUG, 10)
    await levels.set(log.name, logging.ERROR, 20)
    assert log.level == logging.ERROR
    assert levels.told(log.name) == [(log.name, logging.ERROR, 20)]
    await levels.set(log.name, logging.DEBUG, 0.02)
    clock.now += 1
    async with asyncio.timeout(5):
        while log.level != logging.WARNING:
            await asyncio.sleep(0.01)
    assert levels.told(log.name) == [(log.name, logging.WARNING, None)]


async def test_it_is_taken_back_now_and_when_the_server_ends() -> None:
    levels = Levels()
    await levels.set(log.name, logging.DEBUG, 10)
    await levels.set(log.name, None, 10)
    assert log.level == logging.NOTSET
    await levels.set(log.name, logging.DEBUG, 10)
    await levels.close()
    assert log.level == logging.NOTSET


async def test_the_root_of_ours_means_all_of_ours_and_nobody_elses() -> None:
    levels = Levels()
    before = logging.getLogger().level
    await levels.set("", logging.DEBUG, 10)
    try:
        assert log.isEnabledFor(logging.DEBUG)
        assert logging.getLogger().level == before
        assert ("maas", logging.DEBUG) in [(one.logger, one.level) for one in levels.told()]
    finally:
        await levels.close()


@pytest.mark.parametrize("name", ["asyncio", "maas.nobody", "maas.", "../maas", "maasquerade"])
async def test_other_loggers_are_not_touched_nor_made(name: str) -> None:
    for ask in (lambda: Levels().set(name, logging.DEBUG, 1), None):
        with pytest.raises(NotFound, match=r"maas\.unit\.levels"):
            await ask() if ask else Levels().told(name)
    assert name == "asyncio" or name not in logging.root.manager.loggerDict


async def test_the_audit_log_always_writes() -> None:
    logging.getLogger(AUDIT)
    with pytest.raises(InvalidInput, match="always"):
        await Levels().set(AUDIT, logging.ERROR, 1)


async def test_workers_hear_of_it_and_so_does_one_that_comes_later(tmp_path: Path) -> None:
    clock = Clock()
    file = tmp_path / "levels.json"
    first, second = Levels(file, clock), Levels(file, clock)
    for one in (first, second):
        await one.start(0.01)
    await first.set(log.name, logging.DEBUG, 50)
    async with asyncio.timeout(5):
        while second.told(log.name)[0].left_s is None:
            await asyncio.sleep(0.01)
    later = Levels(file, clock)
    await later.start(0.01)
    assert later.told(log.name) == [(log.name, logging.DEBUG, 50)]
    await later.set(log.name, None, 1)
    async with asyncio.timeout(5):
        while first.told(log.name)[0].left_s is not None:
            await asyncio.sleep(0.01)
    for one in (first, second, later):
        await one.close()


async def test_a_damaged_file_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "levels.json"
    file.write_text('{"maas": 3')
    levels = Levels(file)
    await levels.start(10)
    await levels.set(log.name, logging.DEBUG, 50)
    assert levels.told(log.name)[0].level == logging.DEBUG
    await levels.close()
