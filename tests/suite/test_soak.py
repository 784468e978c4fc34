"""Half an hour of everything at once against a generation service of its own: nothing grows, sticks or is lost."""

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest

from maas.generation.v1.generation_service_pb2_grpc import GenerationServiceStub
from services.runtime.channels import open_channel
from services.runtime.store.store import ModelStore
from tests.service.generation import CONFIG, NAMED, publish
from tests.suite.conftest import _serving, free_ports
from tests.suite.soaking import Callers

CALLERS = 24
WARM_UP = 1 / 3  # of the time
SPREAD = 0.05  # of the resident memory, afterwards
# 128 KiB a block, so that the smallest cache there is becomes too small now and then.
WIDE = CONFIG | {"num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 64}


@dataclass(frozen=True)
class Service:
    """A process of its own."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path

    def resident_mib(self) -> float:
        """VmRSS of proc(5)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"^VmRSS:\s+(\d+) kB", status, re.M)[0]) / 1024

    def metric(self, name: str, **labels: str) -> float:
        """The sum over all series of these labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port + 4000}/metrics", timeout=5) as reply:
            lines = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", reply.read().decode(), re.M)
        wanted = {f'{label}="{value}"' for label, value in labels.items()}
        return sum(float(value) for found, value in lines if wanted <= set(found.split(",")))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    publish(ModelStore(tmp_path / "store"), "tiny", config=WIDE, **NAMED)
    (port,) = free_ports(1)
    log = tmp_path / "log"
    arguments = [f"--port={port}", f"--metrics-port={port + 4000}", f"--store={tmp_path / 'store'}"]
    arguments += ["--generate-model=tiny", "--kv-cache-mib=16", "--queue-limit=20", "--batch-sequences=16"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.generation", *arguments, "--lame-duck-s=0", "--threads=1"],
            stderr=file,
            stdout=file,
            env={**os.environ, "MAAS_REDIS_URL": ""},
        )
    end = time.monotonic() + 60
    while not _serving(f"127.0.0.1:{port}"):
        assert process.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.1)
    yield Service(process, port, log)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0, log.read_text()


async def watch(service: Service, until: float) -> list[float]:
    """Resident memory of the service once a second, MiB."""
    found = []
    while time.monotonic() < until:
        found.append(service.resident_mib())
        await asyncio.sleep(1)
    return found


async def at_rest(service: Service) -> None:
    """Waits until no block is held and nobody waits."""
    async with asyncio.timeout(10):
        while service.metric("maas_generation_kv_blocks", state="held") or service.metric("maas_calls_inside"):
            await asyncio.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(0)
async def test_soak(service: Service, request: pytest.FixtureRequest) -> None:
    seconds = 60 * request.config.getoption("--soak-minutes")
    until = time.monotonic() + seconds
    await at_rest(service)
    blocks = service.metric("maas_generation_kv_blocks")
    async with open_channel(f"127.0.0.1:{service.port}", retry=False) as channel:
        callers = Callers(GenerationServiceStub(channel), random.Random(0))
        memory, *_ = await asyncio.gather(watch(service, until), *(callers.work(until) for _ in range(CALLERS)))
    await at_rest(service)
    print(f"\n{sum(callers.endings.values())} calls in {seconds:.0f} s")
    for (kind, code), count in sorted(callers.endings.items()):
        print(f"{count:8} {kind} {code}")
    steady = memory[int(len(memory) * WARM_UP) :]
    tenths = [median(memory[len(memory) * part // 10 :][: len(memory) // 10]) for part in range(10)]
    print(f"MiB resident, by tenths of the time: {' '.join(f'{one:.1f}' for one in tenths)}")
    print(f"{service.metric('maas_generation_preemptions_total'):.0f} preemptions")
    assert max(abs(one / median(steady) - 1) for one in steady) < SPREAD
    assert service.metric("maas_generation_kv_blocks") == blocks
    assert service.metric("maas_generation_waiting") == 0
    assert service.metric("maas_generation_preemptions_total") > 0
    assert not re.search("step failed|unaccounted|Traceback", service.log.read_text())
    assert {code for _, code in callers.endings} >= {"OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
