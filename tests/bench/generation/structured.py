"""What a constraint costs: the same prompts with and without one, so many in flight. Knows our service alone."""

import asyncio
import json
from collections.abc import Callable, Mapping
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
CONSTRAINTS: Mapping[str, pb.Constraint | None] = {
    "none": None,
    "JSON Schema": pb.Constraint(json_schema=json.dumps(PEOPLE)),
    "JSON": pb.Constraint(json_object=True),
    "regex": pb.Constraint(regex=r"([A-Z][a-z]+ [a-z]+ [0-9]{4}; ){40,}"),
}
TEMPERATURES = {"greedy": 0.0, "drawn": 1.0}


async def table(model: str, stub: Any, options: Options) -> Table:
    """Tokens a second by constraint, and as a multiple of those without."""
    cases = [(how, name) for how in TEMPERATURES for name in CONSTRAINTS]
    turns = dict.fromkeys(cases, 0)

    async def measure(case: tuple[str, str]) -> Sample:
        turns[case] += 1
        return await _measure(stub, partial(_request, model, *case, turns[case]))

    found = await interleave({case: partial(measure, case) for case in cases}, options.repeat, options.tell)
    made = Table(
        f"generation: constraints, {IN_FLIGHT} in flight, {NEW_TOKENS} new tokens at most",
        ("choice", "constraint", "tokens/s", "x none", "spread"),
    )
    for how, name in cases:
        samples = found[how, name]
        share = ratio(samples, found[how, "none"])
        made.add(samples, how, name, median(samples).rate, share, f"{spread(samples):.0%}")
    return made


async def _measure(stub: Any, request: Callable[[int], GenerateRequest]) -> Sample:
    """All requests, so many at a time; a grammar is compiled before the clock starts."""
    await stub.Generate(request(REQUESTS))
    gate, began = asyncio.Semaphore(IN_FLIGHT), perf_counter()

    async def one(place: int) -> tuple[float, int]:
        async with gate:
            start = perf_counter()
            reply = await stub.Generate(request(place))
            return perf_counter() - start, reply.usage.completion_tokens

    answered = await asyncio.gather(*(one(place) for place in range(REQUESTS)))
    latencies = [latency for latency, _ in answered]
    return sample(latencies, sum(tokens for _, tokens in answered), perf_counter() - began)


def _request(model: str, how: str, name: str, turn: int, place: int) -> GenerateRequest:
    question = pb.Message(role="user", content=f"Make up {place + 20} people and list them.")
    return GenerateRequest(
        model=model,
        chat=pb.Chat(messages=[question]),
        sampling=pb.Sampling(temperature=TEMPERATURES[how], seed=place),
        stopping=pb.Stopping(max_tokens=NEW_TOKENS, ignore_eos=CONSTRAINTS[name] is None),
        constraint=CONSTRAINTS[name],
        cache_salt=f"{turn}",
    )
