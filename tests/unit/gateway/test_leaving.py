"""A caller who leaves: its call is cancelled at the service, and what waits for core is left to end by itself."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc import aio

from gateway.leaving import leave, messages_of, reply_of


class Held(grpc.GenericRpcHandler):
    """Answers nothing; tells when a call came and when it was cancelled."""

    def __init__(self) -> None:
        self.came, self.left = asyncio.Event(), asyncio.Event()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        async def talk(requests: AsyncIterator[bytes], context: aio.ServicerContext) -> AsyncIterator[bytes]:
            try:
                async for request in requests:
                    yield request
            finally:
                self.left.set()

        async def hold(request: bytes, context: aio.ServicerContext) -> bytes:
            self.came.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.left.set()
            return b""

        if details.method == "/a/Talk":
            return grpc.stream_stream_rpc_method_handler(talk)
        return grpc.unary_unary_rpc_method_handler(hold)


async def test_leaving_cancels_the_call_and_not_its_task() -> None:
    handler, server = Held(), aio.server()
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel, asyncio.timeout(10):
        call = channel.unary_unary("/a/B")(b"")
        others = asyncio.all_tasks()
        leaving = asyncio.create_task(reply_of(call))
        await handler.came.wait()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        # The call's own task is not cancelled: it ends when core says so.
        assert not any(task.cancelling() for task in others)
        await handler.left.wait()
        assert await call.code() is grpc.StatusCode.CANCELLED
    await server.stop(None)


async def test_leaving_a_talk_cancels_it_and_ends_what_was_being_said_and_not_the_wait_for_core() -> None:
    handler, server, hushed = Held(), aio.server(), asyncio.Event()
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    async def said() -> AsyncIterator[bytes]:
        try:
            yield b"one"
            await asyncio.Event().wait()
        finally:
            hushed.set()

    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel, asyncio.timeout(10):
        stream = channel.stream_stream("/a/Talk")(said())
        messages, saying = messages_of(stream), stream._async_request_poller
        assert await anext(messages) == b"one"
        reading = asyncio.create_task(anext(messages))  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        others = asyncio.all_tasks() - {reading, saying}
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        leave(stream)
        await hushed.wait()
        await handler.left.wait()
        assert not any(task.cancelling() for task in others)
        assert await stream.code() is grpc.StatusCode.CANCELLED
    await server.stop(None)
