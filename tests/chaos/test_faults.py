"""Each fault on each process under a mixed load: nothing wrong, twice, lost or stuck, and soon all is well again.

`pytest -m slow -s tests/chaos/test_faults.py` prints the table.
"""

import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.runtime.store.store import ModelStore
from tests.chaos.asks import asks, composed
from tests.chaos.callers import Callers
from tests.chaos.cell import HEAD, cell, sound
from tests.chaos.faults import FAULTS, HELD_S
from tests.chaos.stack import AREAS, Stack, stack

TARGETS = [*(f"{name}-{number}" for name in (*AREAS, "gateway") for number in (1, 2)), "redis"]

pytestmark = [pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole(
    model_store: ModelStore, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Stack, Callers]]:
    draw = random.Random(1)
    async with stack(tmp_path_factory.mktemp("chaos"), model_store) as running, running.channel() as channel:
        callers = Callers(channel, AREAS, [*asks(AREAS, draw), *composed(AREAS, draw)], draw, administers=True)
        await callers.learn()
        print(f"\n{HEAD}")
        yield running, callers


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_on_each_process(whole: tuple[Stack, Callers], fault: str, target: str) -> None:
    running, callers = whole
    row = await cell(running, callers, fault, running.named(target), HELD_S)
    print("\n".join(["", *row.tally.trouble]) + str(row), flush=True)
    sound(row)
