"""The load report behind a reply, as a client of another language sees it: our own library keeps it to itself."""

import asyncio
import base64
import re
import sys
from pathlib import Path

import pytest

from cli.ports import any_free
from maas.internal.v1.orca_pb2 import OrcaLoadReport
from maas.tokenization.v1 import tokenization_service_pb2 as pb
from maas.tokenization.v1 import tokenization_service_pb2_grpc as pb_grpc
from services.runtime.metrics import Metrics
from services.runtime.telemetry.orca import FRESH_S, LoadReport
from tests.service.test_floor import SERVICE, fake

GRPCURL = Path(sys.executable).with_name("grpcurl")
TRAILER = "endpoint-load-metrics-bin"


async def told(address: str, *headers: str) -> str:
    """What grpcurl shows of a call."""
    asked = [f"-H={header}" for header in headers]
    child = await asyncio.create_subprocess_exec(
        *(GRPCURL, "-plaintext", "-v", *asked, address, f"{SERVICE}/Tokenize"), stdout=asyncio.subprocess.PIPE
    )
    text, _ = await child.communicate()
    return text.decode()


@pytest.mark.parametrize("transport", ["native", "grpc"])
async def test_who_asks_is_told_the_load_and_nobody_else(transport: str) -> None:
    port = any_free("127.0.0.1")
    async with fake(transport=transport, queue_limit=10, port=port, metrics_port=0) as (channel, servicer, _):
        address = f"127.0.0.1:{port}"
        stub = pb_grpc.TokenizationServiceStub(channel)
        assert TRAILER not in await told(address)
        waits = [asyncio.ensure_future(stub.Tokenize(pb.TokenizeRequest(model="wait"))) for _ in range(3)]
        await servicer.entered.wait()
        text = await told(address, "endpoint-load-metrics-format: bin")
        servicer.gate.set()
        await asyncio.gather(*waits)
    found = re.search(rf"{TRAILER}: (\S+)", text)
    assert found, text
    report = OrcaLoadReport.FromString(base64.b64decode(found[1] + "=="))
    assert 0 < report.mem_utilization < 1 and report.cpu_utilization > 0
    assert 0.2 <= report.application_utilization <= 0.5 and report.named_metrics["queue_depth"] == 0


def test_a_report_is_kept_for_a_moment_and_rates_are_of_the_last_seconds() -> None:
    now, metrics = [100.0], Metrics()
    load, calls = LoadReport(metrics, lambda: now[0]), metrics.of("/a/b")
    first = load.data()
    for status in ("OK", "OK", "OK", "UNAVAILABLE"):
        calls.begin()
        calls.end(status, 0.1, 0, 0)
    assert load.data() is first
    now[0] += 2 * FRESH_S + 1.8
    report = OrcaLoadReport.FromString(load.data())
    assert (report.rps_fractional, report.eps) == (pytest.approx(2.0), pytest.approx(0.5))
    for _ in range(3):
        now[0] += 5
        load.data()
    assert OrcaLoadReport.FromString(load.data()).rps_fractional == 0


def test_blocks_in_use_and_items_that_wait_are_in_it() -> None:
    metrics = Metrics()
    metrics.queue_depth.labels("a").set(3)
    metrics.queue_depth.labels("b").set(4)
    for state, blocks in (("held", 30), ("cached", 10), ("blank", 60)):
        metrics.kv_blocks.labels("m", state).set(blocks)
    report = OrcaLoadReport.FromString(LoadReport(metrics).data())
    assert report.named_metrics["queue_depth"] == 7
    assert report.utilization["kv_cache"] == pytest.approx(0.3)
