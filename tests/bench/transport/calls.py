"""The calls that are measured, and the servers of either transport that answer them. Measures nothing."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from cli.ports import any_free
from cli.program import Program
from maas.common.v1 import tensor_pb2
from maas.sequence.v1 import sequence_service_pb2
from maas.tokenization.v1 import tokenization_service_pb2
from maas.vision.v1 import vision_pb2, vision_service_pb2
from services.runtime.tensors import from_numpy
from tests.bench import echo, hop
from tests.bench.servers import HOST, suite
from tests.bench.serving.models import LSTM, MLP
from tests.bench.serving.our_rows import SEQUENCE, VISION
from tests.bench.serving.rows import DEFAULTS

GRPC = "grpc.aio"
TRANSPORTS = {GRPC: "grpc", "native": "native"}
NO_STORE = ("cache-control: no-store",)


@dataclass(frozen=True, slots=True)
class Way:
    """A call to a server; headers as `name: value`."""

    call: str
    transport: str
    server: str
    path: str
    body: bytes
    headers: tuple[str, ...] = ()


def ways() -> list[Way]:
    """Every call on either transport."""
    text = _text()
    calls = [
        ("echo", "echo", echo.PATH, text),
        ("gateway, hit", "gateway", hop.COUNT_TOKENS, text),
        ("gateway, passed through", "gateway", hop.COUNT_TOKENS, text, NO_STORE),
        ("tokenization, direct", "tokenization", hop.COUNT_TOKENS, text),
        ("a tensor of 602 KB, echoed", "echo", echo.PATH, bytes(602_112)),
        ("a row to an LSTM", "sequence", SEQUENCE, _series(1)),
        ("a row to an MLP", "vision", VISION, _pixels(1)),
        ("32 rows to an MLP", "vision", VISION, _pixels(32)),
    ]
    return [Way(call[0], kind, f"{call[1]}-{kind}", *call[2:]) for call in calls for kind in TRANSPORTS]


def programs(store: Path, small: Path) -> Iterator[Program]:
    """Each server on each transport. All gateways ask the tokenization that is on grpc.aio."""
    tokens = ""
    for kind, transport in TRANSPORTS.items():
        made = suite(store) | {
            k: v for k, v in suite(small, extra=DEFAULTS).items() if k in ("sequence", "vision")
        }
        made["echo"] = _echo()
        tokens = tokens or made["tokenization"].address
        for name in ("echo", "gateway", "tokenization", "sequence", "vision"):
            one = made[name]
            command = (*one.command, "--transport", transport)
            wired = {**one.environment, "MAAS_TOKENIZATION_ADDRESS": tokens}
            yield replace(one, name=f"{name}-{kind}", command=command, environment=wired)


def _echo() -> Program:
    port = any_free(HOST)
    command = (sys.executable, "-m", echo.__name__, "--port", str(port))
    address = f"{HOST}:{port}"
    return Program("echo", command, address, partial(hop._answers, address))


def _text() -> bytes:
    text = "The quick brown fox jumps over the lazy dog."
    return tokenization_service_pb2.CountTokensRequest(texts=[text]).SerializeToString()


def _series(count: int) -> bytes:
    rows = np.random.default_rng(0).standard_normal((count, 100, 6), dtype=np.float32)
    series = tensor_pb2.SeriesBatch(values=[tensor_pb2.Series(packed=row.tobytes(), features=6) for row in rows])
    return sequence_service_pb2.ClassifyRequest(model=LSTM, series=series, top_k=1).SerializeToString()


def _pixels(count: int) -> bytes:
    rows = np.random.default_rng(0).standard_normal((count, 1, 28, 28), dtype=np.float32)
    images = [vision_pb2.Image(pixels=from_numpy(row)) for row in rows]
    return vision_service_pb2.ClassifyRequest(model=MLP, images=images, top_k=1).SerializeToString()
