"""What a constraint costs: the same prompts, to the same lengths, with and without. Knows our service alone."""

import asyncio
import itertools
import json
from collections.abc import Mapping
from functools import partial
from time import perf_counter
from typing import Any

from maas.generation.v1 import generation_pb2 as pb
from maas.generation.v1.generation_service_pb2 import GenerateRequest
from tests.bench.load import Sample, interleave, median, ratio, sample, spread
from tests.bench.options import Options
from tests.bench.table import Table

IN_FLIGHT, REQUESTS, NEW_TOKENS = 8, 16, 96
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "city": {"enum": ["London", "Berlin", "Oslo"]},
        "languages": {"type": "array", "items": {"type": "string"}, "maxItems": 4},
    },
    "required": ["name", "age", "city", "languages"],
    "additionalProperties": False,
}
PEOPLE = {"type": "array", "items": PERSON, "minItems": 20}
CONSTRAINTS: Mapping[str, pb.Constraint] = {
    "JSON Schema": pb.Constraint(json_schema=json.dumps(PEOPLE)),
    "JSON": pb.Constraint(json_object=True),
    "regex": pb.Constraint(regex=r"([A-Z][a-z]+ [a-z]+ [0-9]{4}; ){40,}"),
}
TEMPERATURES = {"greedy": 0.0, "drawn": 1.0}


async def table(model: str, stub: Any, options: Options) -> Table:
    """Tokens a second by constraint, and as a multiple of those of free texts that end where these end."""
    pairs = [(how, name) for how in TEMPERATURES for name in CONSTRAINTS]
    lengths = {pair: await _lengths(stub, model, *pair) for pair in pairs}
    turn = itertools.count(1)

    async def measure(how: str, name: str, free: bool) -> Sample:
        salt = str(next(turn))
        asked = [_request(model, how, name, *one, free, salt) for one in enumerate(lengths[how, name])]
        return await _measure(stub, asked)

    points = {(*pair, free): partial(measure, *pair, free) for pair in pairs for free in (False, True)}
    found = await interleave(points, options.repeat, options.tell)
    made = Table(
        f"generation: constraints, {IN_FLIGHT} in flight, {NEW_TOKENS} new tokens at most",
        ("choice", "constraint", "tokens/s", "without", "x without", "spread"),
    )
    for how, name in pairs:
        samples, others = found[how, name, False], found[how, name, True]
        rates = median(samples).rate, median(others).rate
        made.add(samples, how, name, *rates, ratio(samples, others), f"{spread(samples):.0%}")
    return made


async def _lengths(stub: Any, model: str, how: str, name: str) -> list[int]:
    """Tokens of each text, the same every time as its seed is; the first call compiles the grammar."""
    asked = (_request(model, how, name, place, NEW_TOKENS, False, "") for place in range(REQUESTS))
    replies = await asyncio.gather(*map(stub.Generate, asked))
    return [reply.usage.completion_tokens for reply in replies]


async def _measure(stub: Any, requests: list[GenerateRequest]) -> Sample:
    """All requests, so many at a time."""
    gate, began = asyncio.Semaphore(IN_FLIGHT), perf_counter()

    async def one(request: GenerateRequest) -> tuple[float, int]:
        async with gate:
            start = perf_counter()
            reply = await stub.Generate(request)
            return perf_counter() - start, reply.usage.completion_tokens

    answered = await asyncio.gather(*map(one, requests))
    if [tokens for _, tokens in answered] != [request.stopping.max_tokens for request in requests]:
        raise RuntimeError("a text did not end where it ended before")
    latencies = [latency for latency, _ in answered]
    return sample(latencies, sum(tokens for _, tokens in answered), perf_counter() - began)


def _request(model: str, how: str, name: str, place: int, tokens: int, free: bool, salt: str) -> GenerateRequest:
    question = pb.Message(role="user", content=f"Make up {place + 20} people and list them.")
    return GenerateRequest(
        model=model,
        chat=pb.Chat(messages=[question]),
        sampling=pb.Sampling(temperature=TEMPERATURES[how], seed=place),
        stopping=pb.Stopping(max_tokens=tokens, ignore_eos=free),
        constraint=None if free else CONSTRAINTS[name],
        cache_salt=salt,
    )
