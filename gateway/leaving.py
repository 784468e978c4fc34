"""How a caller who leaves takes its call to a service along without a leak. Knows grpc.aio, and no service."""

import asyncio
from typing import Any

from grpc.aio import _call


async def reply_of(call: Any) -> Any:
    """The reply of a unary call; raises what the call raises. Cancelled, it cancels the call.

    grpc.aio's own way cancels the task that waits for core, too, which then never frees what it gave to core: some
    900 bytes a call (grpc/grpc#43360). Core alone is told here, and that task ends by itself.
    """
    waiting = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        _call.Call.cancel(call)
        raise
