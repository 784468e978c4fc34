"""A stream of text that goes on after breaks. Knows no channel."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from maas_client.errors import error_of
from maas_client.results import Delta
from maas_client.streams import Progress

# A request and the seconds it may take → the running call and its request id.
Begin = Callable[[Any, float], tuple[Any, str]]


async def unbroken(request: Any, timeout_s: float, begin: Begin) -> AsyncIterator[Delta]:
    """The deltas; whoever stops to listen cancels the call. MaasError where it cannot go on."""
    progress = Progress(request, timeout_s)
    while not progress.ended:
        call, request_id = begin(progress.request, progress.remaining_s)
        try:
            async for message in call:
                yield progress.take(message)
            return
        except grpc.RpcError as error:
            pause_s = progress.pause_s(error_of(error, request_id))
        finally:
            call.cancel()
        await asyncio.sleep(pause_s)
