"""One shared line to one server: opened once for all, anew after its end, and nobody's cancel is another's."""

import asyncio
from typing import Any

import pytest

from services.runtime.redis.line import Line
from services.runtime.redis.node import Node
from tests.unit.runtime.test_redis_line import connected


class Dialled:
    """Gives lines when told to."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.lines: list[Line] = []
        self.failure: Exception | None = None

    async def __call__(self) -> Line:
        await self.gate.wait()
        if self.failure:
            raise self.failure
        line, _ = connected(5)
        self.lines.append(line)
        return line


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_one_who_leaves_while_it_opens_takes_it_from_nobody():
    dialled = Dialled()
    node = Node(dialled)
    asking = [asyncio.create_task(node.ask("GET", str(number))) for number in range(3)]
    await turns()
    asking[0].cancel()
    dialled.gate.set()
    await turns()
    assert len(dialled.lines) == 1
    dialled.lines[0].data_received(b"+1\r\n+2\r\n")
    found: list[Any] = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError) and found[1:] == [b"1", b"2"]
    await node.close()


async def test_a_failure_to_open_is_of_all_who_wait_and_not_of_the_next():
    dialled = Dialled()
    node = Node(dialled)
    dialled.failure = OSError("no")
    dialled.gate.set()
    found = await asyncio.gather(*(node.ask("GET", "k") for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in found] == [OSError] * 3
    dialled.failure = None
    asking = asyncio.create_task(node.ask("GET", "k"))
    await turns()
    dialled.lines[0].data_received(b"+1\r\n")
    assert await asking == b"1"
    await node.close()


async def test_a_master_that_was_demoted_is_looked_for_anew():
    dialled = Dialled()
    dialled.gate.set()
    node = Node(dialled)
    asking = asyncio.create_task(node.ask("SET", "k", "v"))
    await turns()
    dialled.lines[0].data_received(b"-READONLY You can't write against a read only replica.\r\n")
    assert "READONLY" in str(await asking) and dialled.lines[0].over
    again = asyncio.create_task(node.ask("SET", "k", "v"))
    await turns()
    dialled.lines[1].data_received(b"+OK\r\n")
    assert await again == b"OK"
    await node.close()


async def test_closing_while_it_opens_ends_who_waits():
    node = Node(Dialled())
    asking = asyncio.create_task(node.ask("GET", "k"))
    await turns()
    async with asyncio.timeout(5):
        await node.close()
        with pytest.raises(ConnectionError):
            await asking
