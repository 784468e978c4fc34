"""`python -m tests.chaos.lost_host`: the suite on three hosts under load; one goes without a word and comes back.

Prints JSON: every call by how it ended, p99 before, during and after, and how long it took. `netns.OUTSIDE` before
the command gives it the namespace that it needs.
"""

import argparse
import asyncio
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from services.runtime.store.store import ModelStore
from tests.bench.load import quantile
from tests.chaos.asks import asks, composed
from tests.chaos.callers import Callers
from tests.chaos.cell import at_rest, load, recovered
from tests.chaos.netns import Host, hosts
from tests.chaos.server import Server
from tests.chaos.spread import Spread, spread
from tests.chaos.stack import AREAS
from tests.chaos.tally import ENDINGS, Tally

# A call that is sent again where it breaks; the others are of several calls or streams, which go on elsewhere.
UNARY = ("ask", "leave", "err")


async def lose(host: Host, servers: Sequence[Server]) -> None:
    """First the link, so that no process can say good-bye."""
    host.cut()
    for one in servers:
        one.send(signal.SIGKILL)
    for one in servers:
        await one.gone()


async def come_back(running: Spread, host: Host) -> None:
    """Returns once every process there is used again."""
    host.heal()
    for one in running.on[host.name]:
        one.start()
    for one in running.on[host.name]:
        await one.serving()
    for one in running.on[host.name]:
        await recovered(running, one)


async def run(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    draw = random.Random(4)
    with hosts(3) as three:
        host = three[given.host - 1]
        async with spread(folder, ModelStore(given.store), three) as running, running.channel() as channel:
            callers = Callers(channel, AREAS, [*asks(AREAS, draw), *composed(AREAS, draw)], draw)
            await callers.learn()
            async with load(callers, given.callers) as tally:
                began = time.monotonic()
                await asyncio.sleep(given.around_s)
                lost = time.monotonic()
                await lose(host, running.on[host.name])
                await asyncio.sleep(given.away_s)
                back = time.monotonic()
                await come_back(running, host)
                whole = time.monotonic()
                await asyncio.sleep(given.around_s)
            await at_rest(running)
    return told(tally, began, lost, back, whole)


def told(tally: Tally, began: float, lost: float, back: float, whole: float) -> dict[str, Any]:
    """Seconds since the loss, and milliseconds of single calls by when they were made."""
    spans = {"before": (began, lost), "lost": (lost, back), "returning": (back, whole), "after": (whole, 1e12)}
    unary = Counter(ending for kind, ending, *_ in tally.times if kind in UNARY)
    return {
        "sent": sum(tally.sent.values()),
        "ended": {ending: tally.count(ending) for ending in ENDINGS},
        "adds_up": tally.adds_up(),
        "unary": {ending: unary[ending] for ending in ENDINGS},
        "resumed": tally.resumed,
        "p99_ms": {name: _p99_ms(tally, *span) for name, span in spans.items()},
        "answered_a_second": {name: _rate(tally, *span) for name, span in spans.items()},
        "steady_after_s": steady_after_s(tally, began, lost, back),
        "in_use_after_s": round(whole - back, 1),
        "longest_s": round(tally.longest_s, 2),
        "trouble": tally.trouble[:20],
    }


def steady_after_s(tally: Tally, began: float, lost: float, back: float) -> int:
    """Seconds until none, while the host is gone, has under half of the usual answers."""
    ends = Counter(int(made + took - lost) for _, _, made, took in tally.times if made + took > lost)
    usual = sum(made + took < lost for *_, made, took in tally.times) / (lost - began)
    slow = [second for second in range(int(back - lost)) if ends[second] < usual / 2]
    return slow[-1] + 1 if slow else 0


def _p99_ms(tally: Tally, first: float, last: float) -> float:
    took = sorted(took for kind, _, made, took in tally.times if kind == "ask" and first <= made < last)
    return round(quantile(took, 0.99) * 1e3, 1) if took else 0.0


def _rate(tally: Tally, first: float, last: float) -> float:
    ends = [made + took for _, ending, made, took in tally.times if ending == "answered"]
    last = min(last, max(ends))
    return round(sum(first <= end < last for end in ends) / max(1e-9, last - first), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", type=int, default=2, choices=(1, 2, 3), help="which goes; the first has Redis")
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--around-s", type=float, default=10.0, help="load before and after")
    parser.add_argument("--away-s", type=float, default=15.0, help="how long the host is gone")
    parser.add_argument("--store", type=Path, default=Path(".maas/store"))
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(run(given, Path(folder))), indent=1))


if __name__ == "__main__":
    main()
