"""A caller who leaves: its call is cancelled at the service, and what waits for core is left to end by itself."""

import asyncio

import grpc
import pytest
from grpc import aio

from gateway.leaving import reply_of


class Held(grpc.GenericRpcHandler):
    """Answers nothing; tells when a call came and when it was cancelled."""

    def __init__(self) -> None:
        self.came, self.left = asyncio.Event(), asyncio.Event()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        async def hold(request: bytes, context: aio.ServicerContext) -> bytes:
            self.came.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.left.set()
            return b""

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
