"""Runs the handler of a call so that the call ends once, whatever the handler does. Knows no connection."""

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import grpc
from grpc import aio

from services.runtime.h2.call import Call
from services.runtime.h2.stream import StreamCall
from services.runtime.h2.unpack import Unreadable, opened

log = logging.getLogger("maas.h2")

CANCELLED, UNKNOWN, INTERNAL = 1, 2, 13


async def unary(handler: grpc.RpcMethodHandler, call: Call, message: bytes, encoding: str) -> None:
    """One request, one reply."""

    async def run() -> None:
        read, write = handler.request_deserializer, handler.response_serializer
        plain = await opened(message, encoding, call.most_message) if encoding else message
        reply = await handler.unary_unary(read(plain) if read else plain, call)
        call.answer(write(reply) if write else reply)

    await _ending(call, run())


async def stream(handler: grpc.RpcMethodHandler, call: StreamCall) -> None:
    """Every other shape. Handlers are generators, or coroutines that write."""
    call.serialize = handler.response_serializer
    await _ending(call, _streaming(handler, call))


async def _streaming(handler: grpc.RpcMethodHandler, call: StreamCall) -> None:
    await call.heard()
    requests = _read(call, handler.request_deserializer)
    async with _ended(requests):
        asked = requests if handler.request_streaming else await anext(requests, None)
        if asked is None:
            call.end(INTERNAL, "the request has no message")
            return
        found = _behaviour(handler)(asked, call)
        if inspect.isasyncgen(found):
            async with aclosing(found):
                async for message in found:
                    await call.write(message)
        else:
            reply = await found
            if not handler.response_streaming:
                await call.write(reply)
    call.finish()


@asynccontextmanager
async def _ended(requests: AsyncGenerator[Any, None]) -> AsyncIterator[None]:
    """Closes them at the end, unless a task of the handler still waits for the next one: it then sees to that."""
    try:
        yield
    finally:
        with suppress(RuntimeError):
            await requests.aclose()


def _behaviour(handler: grpc.RpcMethodHandler) -> Callable[..., Any]:
    found: Callable[..., Any] = handler.stream_stream or handler.unary_stream or handler.stream_unary
    return found


async def _read(call: StreamCall, deserialize: Callable[[bytes], Any] | None) -> AsyncGenerator[Any, None]:
    async for data in call.messages():
        yield deserialize(data) if deserialize else data


async def _ending(call: Call, work: Awaitable[None]) -> None:
    try:
        await work
    except aio.AbortError:
        pass
    except Unreadable as error:
        call.end(error.code, str(error))
    except asyncio.CancelledError:
        call.end(CANCELLED)
        raise
    except Exception as error:
        # Whoever registers a handler guards it; this one was not.
        log.exception("a handler failed")
        call.end(UNKNOWN, f"Unexpected {type(error)}")
