"""Finds the master that sentinels watch: all are asked at once, and the first whose word is true is believed."""

import asyncio
from collections.abc import Sequence

from services.runtime.redis.dial import Dial, asked
from services.runtime.redis.line import Line
from services.runtime.redis.place import Address


async def open_master(sentinels: Sequence[Address], name: str, ask: Dial, dial: Dial) -> Line:
    """A line to the master `name`; `ask` is how sentinels are met, `dial` how the master is.

    Raises ConnectionError if no sentinel names a server that says itself that it is the master, TimeoutError.
    """
    ways = [asyncio.create_task(_by_way_of(sentinel, name, ask, dial)) for sentinel in sentinels]
    won: Line | None = None
    try:
        async with asyncio.timeout(dial.connect_s):
            for way in asyncio.as_completed(ways):
                if (won := await _proven(way)) is not None:
                    return won
        raise ConnectionError("no sentinel leads to a master")
    finally:
        for one in ways:
            one.cancel()
            one.add_done_callback(lambda ended: _hang_up(ended, won))


async def _proven(way: "asyncio.Future[Line]") -> Line | None:
    """None where this one's word was wrong, or did not come: the next may know better."""
    try:
        return await way
    except Exception:
        return None


async def _by_way_of(sentinel: Address, name: str, ask: Dial, dial: Dial) -> Line:
    """One sentinel's word, proven."""
    line = await ask.open(sentinel)
    try:
        ((host, port),) = await asked(line, [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)])
    finally:
        line.close()
    master = await dial.open(Address(host.decode(), int(port)))
    try:
        ((role, *_),) = await asked(master, [("ROLE",)])
        if role != b"master":
            raise ConnectionError("the sentinel's word is old")
    except BaseException:
        master.close()
        raise
    return master


def _hang_up(ended: "asyncio.Task[Line]", won: Line | None) -> None:
    """Of all the lines that were opened one is kept."""
    if not ended.cancelled() and ended.exception() is None and ended.result() is not won:
        ended.result().close()
