"""Tokenization over gRPC, 256 texts of 500 characters a call, against the tokenizers library in process.

Every call has texts of its own; ours are made while the measurement runs, the library's beforehand.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial

import numpy as np
from tokenizers import Tokenizer

from maas.tokenization.v1 import tokenization_pb2, tokenization_service_pb2
from services.runtime.channels import open_channel
from tests.bench.load import Sample, interleave
from tests.bench.options import Options
from tests.bench.servers import Server, suite
from tests.bench.serving import bare_tokens, models
from tests.bench.serving.report import OURS, Result
from tests.bench.serving.stand import Bench, stand
from tests.bench.serving.texts import KINDS
from tests.bench.serving.ways import Timed, Way
from tests.bench.worker import Worker, worker

TEXTS, CALLERS = 256, (1, 4)
MODELS = ("smollm2-135m-instruct", "minilm-l6-v2")
LIBRARY, PLAIN, COUNTED = "library in process", "ours, ids one by one", "ours, CountTokens"
TOKENIZE, COUNT = (f"/maas.tokenization.v1.TokenizationService/{rpc}" for rpc in ("Tokenize", "CountTokens"))

Body = Callable[[list[str]], bytes]


async def run(bench: Bench) -> list[Result]:
    """A result a tokenizer: kinds of text × calls in flight × ways."""
    options = bench.options
    program = suite(options.store, extra=options.environment)["tokenization"]
    results = []
    async with stand(bench, [program], [], []) as up, AsyncExitStack() as stack:
        for model in MODELS:
            path = models.directory(options.store, model)[1] / "tokenizer.json"
            log = options.logs / "bare_tokens.log"
            one = worker(bare_tokens.__name__, str(path), environment={}, log=log)
            library = await stack.enter_async_context(one)
            await check(up.servers["tokenization"], model, bare_tokens.opened(str(path)))
            timed = _points(up.servers["tokenization"], library, model, options)
            found = await interleave(timed, options.repeat, options.tell)
            results.append(Result(f"tokenize, {model.partition('-')[0]}", "texts/s", found))
    return results


def _points(server: Server, library: Worker, model: str, options: Options) -> dict[tuple[str, str], Timed]:
    timed: dict[tuple[str, str], Timed] = {}
    for seed, (kind, source) in enumerate(KINDS.items()):
        ways = _ways(server, model, source(TEXTS, seed))
        for callers in CALLERS:
            point = f"{kind}, {callers}"
            timed |= {(point, name): partial(way.measure, callers, options.seconds) for name, way in ways.items()}
            timed[point, LIBRARY] = partial(_library, library, kind, callers, options.seconds)
    return timed


def _ways(server: Server, model: str, source: Iterator[list[str]]) -> dict[str, Way]:
    def way(path: str, body: Body, read: Callable[[bytes], int]) -> Way:
        return Way((server,), path, _making(body, source), read, TEXTS, units=TEXTS)

    return {
        OURS: way(TOKENIZE, partial(tokenize, model, True), _encodings),
        PLAIN: way(TOKENIZE, partial(tokenize, model, False), _encodings),
        COUNTED: way(COUNT, partial(count, model), _counts),
    }


def _making(body: Body, source: Iterator[list[str]]) -> Callable[[], Awaitable[bytes]]:
    async def make() -> bytes:
        return body(next(source))

    return make


def tokenize(model: str, packed: bool, texts: list[str]) -> bytes:
    include = tokenization_pb2.Include(packed_ids=packed)
    return tokenization_service_pb2.TokenizeRequest(model=model, texts=texts, include=include).SerializeToString()


def count(model: str, texts: list[str]) -> bytes:
    return tokenization_service_pb2.CountTokensRequest(model=model, texts=texts).SerializeToString()


def _encodings(reply: bytes) -> int:
    return len(tokenization_service_pb2.TokenizeResponse.FromString(reply).encodings)


def _counts(reply: bytes) -> int:
    return len(tokenization_service_pb2.CountTokensResponse.FromString(reply).counts)


async def _library(library: Worker, kind: str, callers: int, seconds: float) -> Sample:
    return Sample(**await library.ask(kind=kind, texts=TEXTS, callers=callers, seconds=seconds))


async def check(server: Server, model: str, library: Tokenizer) -> None:
    """RuntimeError unless the ids are the library's, packed and one by one, and as many as are counted."""
    async with open_channel(server.address, retry=False) as channel:
        for kind, source in KINDS.items():
            texts = next(source(TEXTS, -1))
            right = [one.ids for one in library.encode_batch(texts)]
            for packed in (True, False):
                reply = await channel.unary_unary(TOKENIZE)(tokenize(model, packed, texts))
                found = tokenization_service_pb2.TokenizeResponse.FromString(reply).encodings
                ids = [np.frombuffer(one.packed_ids, "<u4").tolist() if packed else list(one.ids) for one in found]
                _same(ids, right, f"ids of {kind} by {model}")
            reply = await channel.unary_unary(COUNT)(count(model, texts))
            counts = list(tokenization_service_pb2.CountTokensResponse.FromString(reply).counts)
            _same(counts, list(map(len, right)), f"counts of {kind} by {model}")


def _same(found: object, right: object, what: str) -> None:
    if found != right:
        raise RuntimeError(f"{what} are not the library's")
