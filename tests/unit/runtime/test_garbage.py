"""What is frozen, when, and that a model which goes is freed all the same."""

import asyncio
import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.runtime import garbage
from services.runtime.garbage import Settling, settle

SERVER = """
import gc, runpy, sys, threading, time
def watch():
    while not gc.get_freeze_count():
        time.sleep(0.02)
    print("frozen", gc.get_freeze_count(), flush=True)
threading.Thread(target=watch, daemon=True).start()
sys.argv = ["tokenization", "--port=0", "--metrics-port=0", "--store", sys.argv[1]]
runpy.run_module("services.tokenization", run_name="__main__")
"""


class Ring:
    """Holds itself, as a net with a hook does: no count of references ever falls to zero."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_what_is_there_is_frozen_and_what_went_is_freed() -> None:
    ring = Ring()
    there = weakref.ref(ring)
    settle()
    assert gc.get_freeze_count() > 1000 and not any(one is ring for one in gc.get_objects())
    del ring
    gc.collect()
    assert there() is not None, "frozen: passed over"
    settle()
    assert there() is None


async def test_it_waits_until_nothing_changes_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    settled: list[int] = []
    monkeypatch.setattr(garbage, "QUIET_S", 0.05)
    monkeypatch.setattr(garbage, "settle", lambda: settled.append(1))
    settling = Settling()
    for _ in range(5):
        settling.again()
        await asyncio.sleep(0)
    assert settled == []
    async with asyncio.timeout(5):
        while not settled:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert settled == [1]


def test_a_server_freezes_what_it_started_with(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SERVER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdout is not None
        try:
            word, count = child.stdout.readline().split()
        finally:
            child.kill()
    assert word == "frozen" and int(count) > 10_000
