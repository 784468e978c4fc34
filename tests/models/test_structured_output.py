"""SmolLM2 held to shapes that nobody chose by hand: whatever ends by itself parses, at temperature 1."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maas.generation.v1 import generation_pb2 as pb
from maas.generation.v1.generation_service_pb2_grpc import GenerationServiceStub as Stub
from services.generation.__main__ import build
from services.generation.settings import GenerationSettings
from services.runtime.store.store import ModelStore
from tests.harness import running
from tests.service.generation import Ask

pytestmark = pytest.mark.models

LENGTH = pb.FINISH_REASON_LENGTH

NAMES = st.sampled_from(["name", "größe", "a b", "x/y", '"quoted"'])
LEAVES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"enum": ["red", 3, None]}, {"const": "é\n"}]),
    st.builds(
        lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
        st.integers(-99, 99),
        st.integers(0, 500),
    ),
    st.builds(lambda most: {"type": "string", "maxLength": most}, st.integers(0, 12)),
    st.just({"type": "string", "pattern": "^[A-Z]{2}-[0-9]{1,4}$"}),
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(
            lambda items, most: {"type": "array", "items": items, "maxItems": most}, inner, st.integers(0, 3)
        ),
        st.dictionaries(NAMES, inner, min_size=1, max_size=3).map(
            lambda parts: {
                "type": "object",
                "properties": parts,
                "required": list(parts)[:2],
                "additionalProperties": False,
            }
        ),
        st.lists(inner, min_size=1, max_size=2).map(lambda options: {"anyOf": options}),
    ),
    max_leaves=5,
)
PIECES = st.sampled_from(
    ["[a-c]", "x+", r"\d{2,4}", "(yes|no)", "[^\\n]{1,5}", " ?", "日本", r"\.", "(a|bc){1,3}"]
)
PATTERNS = st.lists(PIECES, min_size=1, max_size=5).map("".join).filter(lambda text: text != " ?")


SOME = settings(
    max_examples=2,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
async def stub(model_store: ModelStore) -> AsyncIterator[Stub]:
    sizes = {"port": 0, "metrics_port": 0, "lame_duck_s": 0, "kv_cache_mib": 64}
    async with running(GenerationSettings(store=model_store.root, **sizes), build) as (channel, _):
        yield Stub(channel)


async def whole(stub: Stub, constraints: list[pb.Constraint]) -> list[list[str]]:
    """What ends by itself of two outputs of each, all at once."""
    chat = pb.Chat(messages=[pb.Message(role="user", content="Write something short.")])
    sampling, stopping = pb.Sampling(temperature=1, seed=1, n=2), pb.Stopping(max_tokens=32)
    requests = [Ask(chat=chat, constraint=one, sampling=sampling, stopping=stopping) for one in constraints]
    replies = await asyncio.gather(*map(stub.Generate, requests))
    ended = [[one for one in reply.completions if one.finish_reason != LENGTH] for reply in replies]
    return [[one.text for one in some] for some in ended]


@SOME
@given(st.lists(SCHEMAS, min_size=8, max_size=8))
async def test_any_schema(stub: Stub, schemas: list[dict[str, Any]]) -> None:
    found = await whole(stub, [pb.Constraint(json_schema=json.dumps(schema)) for schema in schemas])
    for schema, texts in zip(schemas, found, strict=True):
        for text in texts:
            jsonschema.validate(json.loads(text), schema)
    assert any(found)


@SOME
@given(st.lists(PATTERNS, min_size=8, max_size=8))
async def test_any_pattern(stub: Stub, patterns: list[str]) -> None:
    found = await whole(stub, [pb.Constraint(regex=pattern) for pattern in patterns])
    for pattern, texts in zip(patterns, found, strict=True):
        assert all(re.fullmatch(pattern, text) for text in texts), (pattern, texts)
    assert any(found)


async def test_a_choice_is_the_likeliest_of_those_offered(stub: Stub) -> None:
    offered = pb.Constraint(choice=pb.Choice(values=[" London", " Paris", " Rome"]))
    (found,) = (await stub.Generate(Ask(text="The capital of France is", constraint=offered))).completions
    assert (found.text, found.finish_reason) == (" Paris", pb.FINISH_REASON_STOP)
