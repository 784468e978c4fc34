"""Real servers for tests: port 0, a real stub, readiness awaited and never slept for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grpc import aio

from services.runtime.channels import open_channel
from services.runtime.server import Build, Floor, S


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
