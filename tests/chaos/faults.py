"""What happens to one process, and the end of it. Each ends with the process up and its link sound."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping

from tests.chaos.server import Server

AWAY_S = 2.0
HELD_S = 10.0
LATE_S = 0.2

Fault = Callable[[Server, float], Awaitable[None]]


async def kill(server: Server, held_s: float) -> None:
    """kill -9, and after a while a new one."""
    server.send(signal.SIGKILL)
    await server.gone()
    await asyncio.sleep(min(AWAY_S, held_s))
    server.start()


async def stop(server: Server, held_s: float) -> None:
    """It says nothing, and is not gone."""
    server.send(signal.SIGSTOP)
    await asyncio.sleep(held_s)
    server.send(signal.SIGCONT)


async def terminate(server: Server, held_s: float) -> None:
    """The written order, and after a while a new one."""
    server.send(signal.SIGTERM)
    await server.gone()
    await asyncio.sleep(min(AWAY_S, held_s))
    server.start()


async def restart(server: Server, held_s: float) -> None:
    """The written order, and at once a new one."""
    server.send(signal.SIGTERM)
    await server.gone()
    server.start()


async def cut(server: Server, held_s: float) -> None:
    """Its network passes nothing."""
    server.link.cut()
    await asyncio.sleep(held_s)
    server.link.heal()


async def delay(server: Server, held_s: float) -> None:
    """Its network is slow."""
    server.link.delay_s = LATE_S
    await asyncio.sleep(held_s)
    server.link.heal()


FAULTS: Mapping[str, Fault] = {one.__name__: one for one in (kill, stop, terminate, restart, cut, delay)}
