"""A try of a unary call, and a copy of it at another replica where the first takes longer than nearly all do.

What a try took is told to the gate; a replica that lost the race is spared for a moment.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from grpc import StatusCode, aio

from gateway.backends import Backend, Replica
from gateway.overload.gate import Gate, Pass
from gateway.overload.race import race
from gateway.relay import shed
from gateway.traced import sent_again

# A copy that would be sent sooner costs more than it can win.
LEAST_WAIT_S = 0.005

T = TypeVar("T")
Send = Callable[[Replica], Coroutine[Any, Any, T]]


async def tried_at(backend: Backend, replica: Replica, tried: list[Replica], inside: Pass, send: Send[T]) -> T:
    """The answer of `replica`, or of another that joins `tried`. Raises what `send` does of the first."""
    wait_s = _wait_s(backend, tried, inside)
    first = _timed(backend.gate, replica, inside, send)
    if wait_s is None:
        return await first

    async def copy(other: Replica) -> T:
        with backend.gate.again(inside) as more:
            answer = await _timed(backend.gate, other, more, send)
        replica.standing.ease()
        backend.gate.hedges_won += 1
        return answer

    def second() -> Coroutine[Any, Any, T] | None:
        if not (backend.another(tried) and backend.gate.spare and backend.budget.spare()):
            return None
        other = backend.pick(tried)
        tried.append(other)
        backend.gate.hedges += 1
        sent_again("hedge", replica.address)
        return copy(other)

    return await race(first, wait_s, second)


def _wait_s(backend: Backend, tried: list[Replica], inside: Pass) -> float | None:
    """None where no copy may be sent."""
    if not inside.way.twice or inside.kind is None or inside.kind.p95 is None:
        return None
    if not backend.gate.bounds.hedge or not backend.another(tried):
        return None
    return max(inside.kind.p95, LEAST_WAIT_S)


async def _timed(gate: Gate, replica: Replica, inside: Pass, send: Send[T]) -> T:
    began = time.monotonic()
    try:
        answer = await send(replica)
    except asyncio.CancelledError:
        gate.late(inside, time.monotonic() - began)
        raise
    except aio.AioRpcError as error:
        if shed(error) is not None:
            gate.shed(inside)
        elif error.code() is StatusCode.DEADLINE_EXCEEDED:
            gate.late(inside, time.monotonic() - began)
        raise
    gate.answered(inside, time.monotonic() - began)
    return answer
