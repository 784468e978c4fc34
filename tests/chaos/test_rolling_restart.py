"""Every process is restarted in turn under load, Redis too, which forgets all: no call fails."""

import random
import time
from pathlib import Path

import pytest

from services.runtime.store.store import ModelStore
from tests.chaos.asks import asks, composed
from tests.chaos.callers import Callers
from tests.chaos.cell import at_rest, load, recovered
from tests.chaos.faults import restart
from tests.chaos.stack import AREAS, stack

pytestmark = pytest.mark.models


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_rolling_restart_of_everything_costs_no_call(tmp_path: Path, model_store: ModelStore) -> None:
    draw = random.Random(3)
    async with stack(tmp_path, model_store) as running, running.channel() as channel:
        callers = Callers(channel, AREAS, [*asks(AREAS, draw), *composed(AREAS, draw)], draw, administers=True)
        await callers.learn()
        async with load(callers) as tally:
            for target in (*running, running.redis):
                begun = time.monotonic()
                await restart(target, 0)
                await recovered(running, target)
                print(f"{target.name:14} again after {time.monotonic() - begun:.1f} s", flush=True)
        await at_rest(running)
        assert not tally.trouble, "\n".join(tally.trouble[:20])
        assert tally.adds_up()
        print(f"{sum(tally.sent.values())} calls, {tally.resumed} streams and steps went on elsewhere")
