"""`python -m tests.bench.telemetry.picture`: asks the real suite, and draws the trace of one call among others.

The call is a fan-out: a text's tokens, a picture's class, a word's sounds and some generated words; other callers'
pictures come at the same time, so that some share its batch.
"""

import argparse
import asyncio
import time
from pathlib import Path

import uvloop

from cli.ports import any_free
from maas.gateway.v1 import gateway_pb2, gateway_service_pb2
from maas.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from maas.generation.v1 import generation_service_pb2 as generation
from maas.sequence.v1 import sequence_service_pb2 as sequence
from maas.tokenization.v1 import tokenization_service_pb2 as tokenization
from maas.vision.v1 import vision_service_pb2 as vision
from services.runtime.channels import open_channel
from services.runtime.context import Trace
from tests.bench.servers import HOST, running, suite
from tests.bench.telemetry.mix import CLASSIFY, NO_STORE, requests
from tests.bench.telemetry.waterfall import draw
from tests.collector import Collector, Told, collector

OTHERS, TOKENS = 24, 12
# Of such a trace: a span of the caller's, of the gateway and its four calls, and what each service tells.
LEAST_SPANS = 25


async def asked(store: Path, logs: Path) -> list[Told]:
    """The spans of one call's trace, the caller's own first."""
    port = any_free(HOST)
    traced = {"MAAS_TRACE_ENDPOINT": f"http://{HOST}:{port}", "MAAS_TRACE_RATIO": "1"}
    async with running(suite(store, extra=traced).values(), logs) as servers:
        with collector(port) as sink:
            await _ask(servers["gateway"].address, Trace.of({}, sampled=True))
            spans: list[Told] = []
            # Whether it meets others in a batch is up to the device.
            while not any(one.links for one in spans):
                trace = Trace.of({}, sampled=True)
                times = await _ask(servers["gateway"].address, trace)
                own = Told(
                    "caller", "maas.FanOut", 3, trace.trace_id, trace.span_id, "", *times, False, {}, (), ()
                )
                spans = [own, *await asyncio.to_thread(_spans, sink, trace)]
            return spans


def _spans(sink: Collector, trace: Trace) -> list[Told]:
    def enough(spans: list[Told]) -> bool:
        return sum(one.trace_id == trace.trace_id for one in spans) >= LEAST_SPANS

    time.sleep(2)
    return [one for one in sink.until(enough) if one.trace_id == trace.trace_id]


async def _ask(address: str, trace: Trace) -> tuple[int, int]:
    """When it began and ended, nanoseconds since the epoch."""
    async with open_channel(address, retry=False) as channel:
        picture = next(body for path, body in requests() if path == CLASSIFY)
        others = [channel.unary_unary(CLASSIFY)(picture, metadata=NO_STORE) for _ in range(OTHERS)]
        began = time.time_ns()
        await GatewayServiceStub(channel).FanOut(_fan_out(picture), metadata=(*NO_STORE, *trace.headers()))
        ended = time.time_ns()
        await asyncio.gather(*others)
    return began, ended


def _fan_out(picture: bytes) -> gateway_service_pb2.FanOutRequest:
    words = generation.GenerateRequest(text="A trace is")
    words.stopping.max_tokens = TOKENS
    calls = [
        gateway_pb2.Call(id="tokens", tokenize=tokenization.TokenizeRequest(texts=["A short text."])),
        gateway_pb2.Call(id="picture", classify_image=vision.ClassifyRequest.FromString(picture)),
        gateway_pb2.Call(id="sounds", transduce=sequence.TransduceRequest(texts=["telemetry"])),
        gateway_pb2.Call(id="words", generate=words),
    ]
    return gateway_service_pb2.FanOutRequest(calls=calls)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=Path(".maas/bench/trace.png"), help="PNG or SVG")
    parser.add_argument("--store", type=Path, default=Path(".maas/store"), help="the models")
    given = parser.parse_args()
    given.file.parent.mkdir(parents=True, exist_ok=True)
    spans = uvloop.run(asked(given.store.absolute(), given.file.parent))
    title = f"trace {spans[0].trace_id}: one fan-out among {OTHERS} other calls, {len(spans)} spans"
    draw(spans, title, given.file)
    print(given.file)


if __name__ == "__main__":
    main()
