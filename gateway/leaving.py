"""How a caller who leaves takes its call to a service along without a leak. Knows grpc.aio, and no service.

grpc.aio's own way cancels what waits for core, too, and what that gave to core is then never freed: 100 to 1,100
bytes a call (grpc/grpc#43360). Here core alone is told, and what waits for it ends by itself.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from grpc.aio import _call


async def reply_of(call: Any) -> Any:
    """The reply of a unary call; raises what the call raises. Cancelled, it cancels the call."""
    try:
        return await _outlasting(call)
    except asyncio.CancelledError:
        _call.Call.cancel(call)
        raise


async def opened(stream: Any) -> AsyncIterator[bytes]:
    """The messages of a stream, for `next_of`, once its initial metadata is there or it is over."""
    await _outlasting(stream._preparation)
    return aiter(stream)


def next_of(messages: AsyncIterator[bytes]) -> Awaitable[bytes | None]:
    """The next message, None after the last; raises what the stream raises. `leave` follows where it is cancelled."""
    return _outlasting(anext(messages, None))


def leave(stream: Any) -> None:
    """Cancels a stream that is not over, and with it the sending of its requests."""
    sending = getattr(stream, "_async_request_poller", None)
    if _call.Call.cancel(stream) and sending is not None:
        sending.cancel()


def _outlasting(awaitable: Awaitable[Any]) -> Awaitable[Any]:
    """What goes on without the one who waited for it, and whose end then is nobody's affair."""
    going = asyncio.ensure_future(awaitable)
    going.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    return asyncio.shield(going)
