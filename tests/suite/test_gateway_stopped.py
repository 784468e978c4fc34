"""A replica that is stopped, not gone: its connection stays open and says nothing."""

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from grpc import aio

from gateway.__main__ import build
from maas.gateway.v1.gateway_service_pb2 import GetStatusRequest
from maas.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from tests.harness import running
from tests.suite.gateway_fakes import settings

SERVER = Path(__file__).with_name("faulty_server.py")
METHOD = "/maas.tokenization.v1.TokenizationService/GetTokenizer"
# Far more than it takes to notice, far less than a connection would be believed without asking.
DEADLINE_S = 8


@contextmanager
def process(name: str, log: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """One that answers with its name, and its address."""
    command = [sys.executable, SERVER, name, log]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            yield child, f"127.0.0.1:{int(child.stdout.readline())}"
        finally:
            child.kill()


async def healths(channel: aio.Channel) -> set[str]:
    status = await GatewayServiceStub(channel).GetStatus(GetStatusRequest())
    return {one.health for one in status.backends}


async def test_calls_on_a_stopped_replica_end_on_the_other(tmp_path: Path) -> None:
    with process("one", tmp_path / "log") as (one, first), process("two", tmp_path / "log") as (_, second):
        async with running(settings({"tokenization": f"{first},{second}"}), build) as (channel, _):
            call, ends, stop = channel.unary_unary(METHOD), Counter[bytes](), asyncio.Event()

            async def load() -> None:
                while not stop.is_set():
                    ends[await call(b"", timeout=DEADLINE_S)] += 1
                    await asyncio.sleep(0.01)

            workers = [asyncio.create_task(load()) for _ in range(8)]
            async with asyncio.timeout(DEADLINE_S):
                while len(ends) < 2:
                    await asyncio.sleep(0.01)
                one.send_signal(signal.SIGSTOP)
                while await healths(channel) != {"UNREACHABLE", "SERVING"}:
                    await asyncio.sleep(0.05)
            one.send_signal(signal.SIGCONT)
            before = ends[b"one"]
            async with asyncio.timeout(DEADLINE_S):
                while ends[b"one"] < before + 5:
                    await asyncio.sleep(0.05)
            stop.set()
            await asyncio.gather(*workers)
