"""The short form of the suite of faults: two services, and one fault each of the kinds that differ most."""

import random
from pathlib import Path

import pytest

from services.runtime.store.store import ModelStore
from tests.chaos.asks import asks, composed
from tests.chaos.callers import Callers
from tests.chaos.cell import cell, sound
from tests.chaos.stack import stack

pytestmark = [pytest.mark.models, pytest.mark.timeout(300)]
AREAS = ("tokenization", "sequence")
CELLS = (("kill", "sequence-1"), ("stop", "tokenization-2"), ("kill", "gateway-1"))
HELD_S = 4.0  # longer than it takes to notice
WORKERS = 2


async def test_callers_notice_no_fault(tmp_path: Path, model_store: ModelStore) -> None:
    draw = random.Random(2)
    async with stack(tmp_path, model_store, AREAS) as running, running.channel() as channel:
        callers = Callers(channel, AREAS, [*asks(AREAS, draw), *composed(AREAS, draw)], draw, administers=True)
        await callers.learn()
        for fault, target in CELLS:
            sound(await cell(running, callers, fault, running.named(target), HELD_S, WORKERS))
