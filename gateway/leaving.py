"""How a caller who leaves takes its call to a service along without a leak. Knows grpc.aio, and no service.

grpc.aio's own way cancels what waits for core, too, and what that gave to core is then never freed: 500 to 1,100
bytes a call (grpc/grpc#43360). Here core alone is told, and what waits for it ends by itself. A stream of one
request loses 100 bytes either way, and is read without.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from typing import Any

from grpc.aio import _call


async def reply_of(call: Any) -> Any:
    """The reply of a unary call; raises what the call raises. Cancelled, it cancels the call."""
    try:
        return await _outlasting(call)
    except asyncio.CancelledError:
        leave(call)
        raise


async def messages_of(stream: Any) -> AsyncGenerator[bytes, None]:
    """The messages of a bidi stream; raises what the stream raises. `leave` follows where it is cancelled."""
    await _outlasting(stream._preparation)
    messages = aiter(stream)
    while (message := await _outlasting(anext(messages, None))) is not None:
        yield message


def leave(call: Any) -> None:
    """Cancels a call that is not over, and with it the sending of its requests."""
    sending = getattr(call, "_async_request_poller", None)
    if _call.Call.cancel(call) and sending is not None:
        sending.cancel()


def _outlasting(awaitable: Awaitable[Any]) -> Awaitable[Any]:
    """What goes on without the one who waited for it, and whose end then is nobody's affair."""
    going = asyncio.ensure_future(awaitable)
    going.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    return asyncio.shield(going)
