"""Real servers for tests: port 0, a real stub, readiness awaited and never slept for."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from grpc import aio

from gateway.ending import end_of, settled
from services.runtime.channels import open_channel
from services.runtime.floor import Floor, S
from services.runtime.server import Build


@asynccontextmanager
async def running(settings: S, build: Build[S]) -> AsyncIterator[tuple[aio.Channel, Floor[S]]]:
    """A server built by `build`, loaded and SERVING, with a channel to it; closed by the written order."""
    floor: Floor[S] = Floor(settings)
    await build(floor)
    port = await floor.start()
    try:
        async with open_channel(f"127.0.0.1:{port}", retry=False) as channel:
            yield channel, floor
    finally:
        await floor.close()


async def heard(call: Any) -> AsyncIterator[Any]:
    """A stream's messages, then how it ended, whatever the client was still sending: a write that fails as the
    stream is refused hides why."""
    ends: list[aio.AioRpcError] = []
    call.add_done_callback(lambda _: ends.append(end_of(call)))
    try:
        async for message in call:
            yield message
    except aio.AioRpcError as error:
        raise await settled(call, ends[0] if ends else error) from None


@contextmanager
def process(area: str, *flags: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A server of `area` in a process of its own, once it serves, and its address; killed at the end."""
    command = [sys.executable, "-m", f"services.{area}", "--port=0", "--metrics-port=0", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        try:
            lines: list[dict[str, Any]] = []
            while not any(line["message"] == "serving" for line in lines):
                lines.append(json.loads(child.stderr.readline()))
            yield child, next(line["address"] for line in lines if "address" in line)
        finally:
            child.kill()
