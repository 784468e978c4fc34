"""How a stream to a service ended, read at the right moment. Knows no replica and no budget."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from grpc import StatusCode, aio

# What grpc.aio says of a call that it could not write to, when that comes before the status that explains it.
LOST = StatusCode.INTERNAL, "Internal error from Core"
LOST_TRIES, LOST_WAIT_S = 100, 0.005


async def settled(stream: Any, end: aio.AioRpcError) -> aio.AioRpcError:
    """`end`, or where only a failed write tells that the call is over, the status that follows on its heels."""
    for _ in range(LOST_TRIES):
        if (end.code(), end.details()) != LOST:
            break
        await asyncio.sleep(LOST_WAIT_S)
        end = end_of(stream)
    return end


def end_of(stream: Any) -> aio.AioRpcError:
    """How a stream ended, taken at that moment: grpc.aio lets a write that fails a little later replace it."""
    code, details = _ready(stream.code()), _ready(stream.details())
    return aio.AioRpcError(code, None, _ready(stream.trailing_metadata()), details)


def _ready(answer: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that need not wait, as those of an ended call need not."""
    try:
        answer.send(None)
    except StopIteration as done:
        return done.value
    answer.close()
    raise RuntimeError("the call has not ended")
