"""Our own HTTP/2 server, called by grpc.aio and by hand: what every client may rely on."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest
import uvloop
from grpc import aio

from services.runtime.compiled import NoCompiler
from services.runtime.floor import Floor
from services.runtime.h2.native import load
from services.runtime.h2.server import IDLE_S, Server
from services.runtime.settings import ServerSettings
from tests.harness import running

MOST = 1024 * 1024
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)


def built() -> bool:
    try:
        load()
    except NoCompiler:
        return False
    return True


pytestmark = pytest.mark.skipif(not built(), reason="needs g++ and libnghttp2.so.14")


class Handlers:
    """What they began and how it ended, for tests to see."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.entered = asyncio.Event()
        self.written = 0

    async def echo(self, request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("x-after-bin", b"\x00\xff"),))
        await context.send_initial_metadata((("x-ahead", "yes"),))
        return request

    async def metadata(self, request: bytes, context: Any) -> bytes:
        return repr(sorted(context.invocation_metadata())).encode()

    async def refuse(self, request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.NOT_FOUND, "100 % nö\n", (("x-why", "none"),))

    async def fail(self, request: bytes, context: Any) -> bytes:
        raise ZeroDivisionError

    async def wait(self, request: bytes, context: Any) -> bytes:
        self.entered.set()
        try:
            await asyncio.sleep(float(request))
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        return b"done"

    async def both(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        try:
            async for request in requests:
                yield request
        finally:
            self.ended.append("closed")

    async def pour(self, request: bytes, context: Any) -> None:
        for _ in range(1000):
            await context.write(bytes(MOST // 4))
            self.written += 1

    async def total(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return str(sum([len(request) async for request in requests])).encode()


@asynccontextmanager
async def serving(
    *more: Callable[..., Any], idle_s: float = IDLE_S, **options: int
) -> AsyncIterator[tuple[aio.Channel, Handlers, Server, int]]:
    """`more`: unary handlers, by their names."""
    handlers = Handlers()
    unary = (handlers.echo, handlers.metadata, handlers.refuse, handlers.fail, handlers.wait, *more)
    methods = {one.__name__: grpc.unary_unary_rpc_method_handler(one) for one in unary}
    methods["both"] = grpc.stream_stream_rpc_method_handler(handlers.both)
    methods["pour"] = grpc.unary_stream_rpc_method_handler(handlers.pour)
    methods["total"] = grpc.stream_unary_rpc_method_handler(handlers.total)
    server = Server({"grpc.max_receive_message_length": MOST, **options}.items(), idle_s)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.enable_retries", 0)]
    try:
        async with aio.insecure_channel(f"127.0.0.1:{port}", options=unlimited) as channel:
            yield channel, handlers, server, port
    finally:
        await server.stop(0)


async def failure(call: Awaitable[object]) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return caught.value


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.01)


async def test_a_call_and_what_is_said_around_it() -> None:
    async with serving() as (channel, *_):
        call = channel.unary_unary("/t/echo")(b"hello")
        assert await call == b"hello"
        assert ("x-ahead", "yes") in tuple(await call.initial_metadata())
        assert ("x-after-bin", b"\x00\xff") in tuple(await call.trailing_metadata())
        told = await channel.unary_unary("/t/metadata")(b"", metadata=(("x-a", "1"), ("x-b-bin", b"\xfe")))
        assert b"('x-a', '1'), ('x-b-bin', b'\\xfe')" in told


async def test_many_at_once_get_their_own_answers_each() -> None:
    async with serving() as (channel, *_):
        echo = channel.unary_unary("/t/echo")
        bodies = [bytes([number % 256]) * (number * 37 % 20_000) for number in range(300)]
        assert await asyncio.gather(*map(echo, bodies)) == bodies


async def test_statuses() -> None:
    async with serving() as (channel, *_):
        refused = await failure(channel.unary_unary("/t/refuse")(b""))
        assert (refused.code(), refused.details()) == (grpc.StatusCode.NOT_FOUND, "100 % nö\n")
        assert ("x-why", "none") in tuple(refused.trailing_metadata())
        assert (await failure(channel.unary_unary("/t/fail")(b""))).code() is grpc.StatusCode.UNKNOWN
        assert (await failure(channel.unary_unary("/t/none")(b""))).code() is grpc.StatusCode.UNIMPLEMENTED


async def test_limits_hold_both_ways_and_for_packed_messages() -> None:
    async with serving() as (channel, *_):
        for method in (channel.unary_unary("/t/echo"), channel.unary_unary("/t/echo", None, None)):
            over = await failure(method(bytes(MOST + 1)))
            assert over.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and str(MOST) in (over.details() or "")
        packed = await failure(channel.unary_unary("/t/echo")(bytes(MOST + 1), compression=grpc.Compression.Gzip))
        assert packed.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await channel.unary_unary("/t/echo")(bytes(MOST)) == bytes(MOST)


@pytest.mark.parametrize("form", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_packed_messages_are_read(form: grpc.Compression) -> None:
    async with serving() as (channel, *_):
        assert await channel.unary_unary("/t/echo")(b"x" * 5000, compression=form) == b"x" * 5000
        stream = channel.stream_stream("/t/both")(iter([b"y" * 5000, b"z"]), compression=form)
        assert [message async for message in stream] == [b"y" * 5000, b"z"]


async def test_a_deadline_ends_call_and_handler() -> None:
    async with serving() as (channel, handlers, *_):
        late = await failure(channel.unary_unary("/t/wait")(b"60", timeout=0.1))
        assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: handlers.ended == ["cancelled"])


async def test_a_caller_who_leaves_ends_the_handler() -> None:
    async with serving() as (channel, handlers, *_):
        call = channel.unary_unary("/t/wait")(b"60")
        await handlers.entered.wait()
        call.cancel()
        await until(lambda: handlers.ended == ["cancelled"])
        stream = channel.stream_stream("/t/both")()
        await stream.write(b"x")
        assert await stream.read() == b"x"
        stream.cancel()
        await until(lambda: handlers.ended == ["cancelled", "closed"])


async def test_streams_of_many_and_of_large_messages() -> None:
    async with serving() as (channel, *_):
        small = [b"%d" % number for number in range(500)]
        assert [one async for one in channel.stream_stream("/t/both")(iter(small))] == small
        large = [bytes([number]) * MOST for number in range(4)]
        assert [one async for one in channel.stream_stream("/t/both")(iter(large))] == large
        assert await channel.stream_unary("/t/total")(iter(large)) == b"%d" % (4 * MOST)


async def test_who_writes_waits_for_a_caller_who_does_not_read() -> None:
    async with serving() as (channel, handlers, *_):
        stream = aiter(channel.unary_stream("/t/pour")(b""))
        await anext(stream)
        await asyncio.sleep(0.2)
        stopped = handlers.written
        assert stopped < 1000
        for _ in range(stopped):
            await anext(stream)
        await until(lambda: handlers.written > stopped)


async def test_stopping_lets_calls_end_and_turns_new_ones_away() -> None:
    async with serving() as (channel, handlers, server, _):
        call = asyncio.ensure_future(channel.unary_unary("/t/wait")(b"0.3"))
        await handlers.entered.wait()
        stopping = asyncio.create_task(server.stop(5))
        await asyncio.sleep(0.1)
        assert (await failure(channel.unary_unary("/t/echo")(b""))).code() is grpc.StatusCode.UNAVAILABLE
        assert await call == b"done"
        await stopping


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("turns", range(6))
def test_stopping_parts_from_who_came_last(run: Callable[..., None], turns: int) -> None:
    run(_stopped_after(turns))


async def _stopped_after(turns: int) -> None:
    async with serving() as (_, _, server, port):
        with socket.create_connection(("127.0.0.1", port)) as late:
            late.setblocking(False)
            for _ in range(turns):  # the loop's, in which it is accepted and made a connection
                await asyncio.sleep(0)
            await server.stop(0)
            async with asyncio.timeout(5):
                with suppress(ConnectionResetError):
                    while await asyncio.get_running_loop().sock_recv(late, 4096):
                        pass


async def test_stopping_ends_what_takes_too_long() -> None:
    async with serving() as (channel, handlers, server, _):
        call = asyncio.ensure_future(channel.unary_unary("/t/wait")(b"60"))
        await handlers.entered.wait()
        await server.stop(0.1)
        assert (await failure(call)).code() is grpc.StatusCode.UNAVAILABLE
        assert handlers.ended == ["cancelled"]


async def test_an_old_connection_is_replaced_without_a_failed_call() -> None:
    """A call that the client has not sent yet when it hears of the end is its own to send anew, as clients do."""
    async with (
        serving(**{"grpc.max_connection_age_ms": 200}) as (_, _, server, port),
        aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        seen = set()
        for number in range(100):
            assert await channel.unary_unary("/t/echo")(b"%d" % number) == b"%d" % number
            seen |= set(map(id, server._connections))
            await asyncio.sleep(0.01)
        assert len(seen) > 1


async def test_a_peer_that_answers_no_ping_is_let_go() -> None:
    async with serving(**{"grpc.keepalive_time_ms": 100, "grpc.keepalive_timeout_ms": 100}) as (channel, *_, port):
        silent = socket.create_connection(("127.0.0.1", port))
        silent.sendall(PREFACE)
        silent.setblocking(False)
        await channel.unary_unary("/t/wait")(b"1")  # whoever answers pings stays
        loop, got = asyncio.get_running_loop(), b"x"
        async with asyncio.timeout(5):
            try:
                while got:
                    got = await loop.sock_recv(silent, 65536)
            except ConnectionResetError:
                pass
        silent.close()


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", PREFACE + b"\xff" * 100, bytes(1000)])
async def test_what_is_no_http_2_is_cut_off_and_harms_nobody(garbage: bytes) -> None:
    async with serving() as (channel, *_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(garbage)
        async with asyncio.timeout(5):
            await reader.read()
        writer.close()
        assert await channel.unary_unary("/t/echo")(b"still here") == b"still here"


async def test_a_port_that_is_taken_is_told() -> None:
    async with serving() as (*_, port):
        with pytest.raises(RuntimeError, match=str(port)):
            Server({"grpc.so_reuseport": 0}.items()).add_insecure_port(f"127.0.0.1:{port}")


async def test_the_floor_serves_by_it_when_told() -> None:
    async def build(floor: Floor[ServerSettings]) -> None:
        assert isinstance(floor.server, Server)

    async with running(ServerSettings(transport="native", lame_duck_s=0), build) as (channel, _):
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert await check(b"") == b"\x08\x01"
