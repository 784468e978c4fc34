"""The transport's floor: a bare grpc.aio server that returns what it gets, or asks `--upstream` or
`--redis` for it."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable

import grpc
import uvloop
from grpc import aio

from services.runtime.h2.server import Server
from tests.bench.redis_get import KEY, Connection, connected

Handler = Callable[[bytes, aio.ServicerContext], Awaitable[bytes]]

SERVICE, METHOD = "bench.Echo", "Call"
PATH = f"/{SERVICE}/{METHOD}"


async def serve(port: int, upstream: str, redis: str, transport: str) -> None:
    """Serves until killed. Bytes in, bytes out: no message is parsed on any hop."""
    server = Server() if transport == "native" else aio.server()
    handler = _proxy(aio.insecure_channel(upstream)) if upstream else _echo
    if redis:
        handler = _getting(await connected(redis))
    methods = {METHOD: grpc.unary_unary_rpc_method_handler(handler)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


async def _echo(request: bytes, context: aio.ServicerContext) -> bytes:
    return request


def _proxy(channel: aio.Channel) -> Handler:
    """A call upstream for each call: the least a gateway can do."""
    call = channel.unary_unary(PATH)

    async def forward(request: bytes, context: aio.ServicerContext) -> bytes:
        reply: bytes = await call(request)
        return reply

    return forward


def _getting(connection: Connection) -> Handler:
    """One GET for each call: the least that a hit in Redis can cost."""

    async def get(request: bytes, context: aio.ServicerContext) -> bytes:
        reply: bytes = await connection.ask("GET", KEY)
        return reply

    return get


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", default="", help="address of the next hop")
    parser.add_argument("--redis", default="", help="URL of a Redis to ask")
    parser.add_argument("--transport", choices=("grpc", "native"), default="grpc")
    parser.add_argument("--uvloop", action=argparse.BooleanOptionalAction, default=True)
    given = parser.parse_args()
    (uvloop.run if given.uvloop else asyncio.run)(serve(given.port, given.upstream, given.redis, given.transport))


if __name__ == "__main__":
    main()
