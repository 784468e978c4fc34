"""Structured output over a real server: what comes back parses, what cannot be had is refused at once."""

import asyncio
import json
import re

import grpc
import jsonschema
import pytest

from maas.generation.v1 import generation_pb2 as pb
from maas.generation.v1.generation_service_pb2_grpc import GenerationServiceStub as Stub
from tests.service.generation import TEXT, Ask, Served, joined, refusal

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["é", 'b"c']}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
CHOICES = ["yes", "no", "日本語", 'a "b"\n\\c', "yes, indeed"]
LARK = 'start: term (" + " term)*\nterm: /[0-9]/ | "(" start ")"'
GBNF = 'root ::= ("ab" | [x-z]+) "!"'


def ask(constraint: pb.Constraint, seed: int = 0, tokens: int = 100, **fields: object) -> Ask:
    sampling = pb.Sampling(temperature=0.8 if seed else 0, seed=seed)
    return Ask(
        text=TEXT, constraint=constraint, stopping=pb.Stopping(max_tokens=tokens), sampling=sampling, **fields
    )


def valid(constraint: pb.Constraint, text: str) -> bool:
    kind = constraint.WhichOneof("kind")
    if kind in ("json_schema", "json_object"):
        schema = json.loads(constraint.json_schema) if kind == "json_schema" else {"type": "object"}
        jsonschema.validate(json.loads(text), schema)
        return True
    if kind == "choice":
        return text in constraint.choice.values
    if kind == "regex":
        return re.fullmatch(constraint.regex, text) is not None
    patterns = {LARK: r"[0-9+() ]+", GBNF: "(ab|[x-z]+)!"}
    return re.fullmatch(patterns[constraint.grammar], text) is not None


KINDS = {
    "schema": pb.Constraint(json_schema=json.dumps(PERSON)),
    "object": pb.Constraint(json_object=True),
    "regex": pb.Constraint(regex=r"^[a-z]{2,9}@(maas|x\.y)/\n?z$"),
    "choice": pb.Constraint(choice=pb.Choice(values=CHOICES)),
    "lark": pb.Constraint(grammar=LARK),
    "gbnf": pb.Constraint(grammar=GBNF),
}


@pytest.mark.parametrize("name", KINDS)
async def test_every_whole_output_parses_and_a_stream_says_the_same(stub: Stub, name: str) -> None:
    constraint, whole = KINDS[name], 0
    for seed in range(5):
        request = ask(constraint, seed)
        (found,) = (await stub.Generate(request)).completions
        messages, streamed = await joined(stub, request)
        assert streamed[0] == found
        if found.finish_reason != pb.FINISH_REASON_LENGTH:
            whole += 1
            assert valid(constraint, found.text), found.text
    assert whole or name == "object"


async def test_many_at_once_say_what_each_says_alone(stub: Stub) -> None:
    requests = [ask(constraint, seed) for seed in range(3) for constraint in KINDS.values()]
    alone = [(await stub.Generate(request)).completions for request in requests]
    together = await asyncio.gather(*(stub.Generate(request) for request in requests))
    assert [reply.completions for reply in together] == alone


async def test_chat_and_many_completions(stub: Stub) -> None:
    request = ask(KINDS["regex"], 3)
    request.chat.messages.append(pb.Message(role="user", content="hi"))
    request.sampling.n = 6
    texts = [one.text for one in (await stub.Generate(request)).completions]
    assert len(set(texts)) > 1 and all(valid(KINDS["regex"], text) for text in texts)


async def test_how_it_ends(stub: Stub) -> None:
    async def end(constraint: pb.Constraint, **stopping: object) -> tuple[str, int]:
        rules = pb.Stopping(max_tokens=20, **stopping)
        (found,) = (await stub.Generate(Ask(text=TEXT, constraint=constraint, stopping=rules))).completions
        assert not found.HasField("stop_match")
        return found.text, found.finish_reason

    assert await end(pb.Constraint(regex="abc"), ignore_eos=True, min_tokens=9) == ("abc", pb.FINISH_REASON_STOP)
    assert (await end(pb.Constraint(regex="[ab]+"), ignore_eos=True))[1] == pb.FINISH_REASON_LENGTH
    assert await end(pb.Constraint(json_object=False)) == await end(pb.Constraint())


REFUSED: dict[str, tuple[pb.Constraint, str, str]] = {
    "not JSON": (pb.Constraint(json_schema="{a"), "json_schema", "is not JSON"),
    "not a schema": (pb.Constraint(json_schema="[1]"), "json_schema", "must be a JSON object"),
    "unknown type": (pb.Constraint(json_schema='{"type": "strin"}'), "json_schema", "Invalid type: strin"),
    "unknown keyword": (pb.Constraint(json_schema='{"not": {}}'), "json_schema", '"not"'),
    "impossible": (pb.Constraint(json_schema="false"), "json_schema", "Unsatisfiable"),
    "deep": (pb.Constraint(json_schema='{"items":' * 3000 + "{}" + "}" * 3000), "json_schema", "too deeply"),
    "deeper than the library": (
        pb.Constraint(json_schema='{"items":' * 300 + "{}" + "}" * 300),
        "json_schema",
        "recursion limit",
    ),
    "loop": (pb.Constraint(json_schema='{"$ref": "#"}'), "json_schema", "no text"),
    "remote": (pb.Constraint(json_schema='{"$ref": "http://localhost:1/x"}'), "json_schema", "does not fetch"),
    "file": (pb.Constraint(json_schema='{"$ref": "file:///etc/passwd"}'), "json_schema", "does not fetch"),
    "exploding": (
        pb.Constraint(json_schema=json.dumps({"allOf": [{"anyOf": [{"type": "integer"}] * 12}] * 5})),
        "json_schema",
        "too large",
    ),
    "a megabyte": (pb.Constraint(json_schema=" " * 2**20), "json_schema", "65536"),
    "unclosed": (pb.Constraint(regex="[a"), "regex", "unclosed character class"),
    "look-ahead": (pb.Constraint(regex="(?=a)b"), "regex", "look-around"),
    "empty text": (pb.Constraint(regex=""), "regex", "no text but the empty one"),
    "nested": (pb.Constraint(regex="(" * 20000 + "a" + ")" * 20000), "regex", "invalid regex"),
    "no choice": (pb.Constraint(choice=pb.Choice()), "choice.values", "at least 1"),
    "empty choice": (pb.Constraint(choice=pb.Choice(values=["a", ""])), "choice.values[1]", "empty"),
    "long choices": (pb.Constraint(choice=pb.Choice(values=["a" * 60000] * 2)), "choice", "65536"),
    "unknown rule": (pb.Constraint(grammar="start: foo"), "grammar", 'unknown name: "foo"'),
    "no rules": (pb.Constraint(grammar=""), "grammar", "no start rule"),
    "bad GBNF": (pb.Constraint(grammar="root ::= ("), "grammar", "is not GBNF"),
    "deep GBNF": (pb.Constraint(grammar="root ::= " + "(" * 9000), "grammar", "is not GBNF"),
    "deep grammar": (pb.Constraint(grammar="start: " + "(" * 9000 + '"a"' + ")" * 9000), "grammar", "nested"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_cannot_be_had_is_refused_by_field(stub: Stub, name: str) -> None:
    constraint, field, said = REFUSED[name]
    code, fields, text = await refusal(stub.Generate(ask(constraint)))
    assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, [f"constraint.{field}"]) and said in text
    assert "\n" not in text and "backtrace" not in text
    code, fields, text = await refusal(joined(stub, ask(constraint)))
    assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, [f"constraint.{field}"])


async def test_huge_counts_cost_nothing_before_they_are_written(stub: Stub) -> None:
    (found,) = (await stub.Generate(ask(pb.Constraint(regex="((ab{9}){1000}){1000}"), tokens=30))).completions
    assert found.finish_reason == pb.FINISH_REASON_LENGTH and ("abbbbbbbbb" * 30).startswith(found.text)


async def test_exclusion_by_other_fields_is_the_callers_to_mend(stub: Stub) -> None:
    request = ask(pb.Constraint(regex="[0-9]+"))
    request.sampling.bad_words.extend("0123456789")
    code, fields, text = await refusal(stub.Generate(request))
    assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["sampling"]) and "constraint" in text


async def test_special_tokens_are_no_text_unless_named(served: Served) -> None:
    free = pb.Constraint(regex=r"<\|im_start\|>")
    (spelt,) = (await served.stub.Generate(ask(free))).completions
    assert spelt.text == "<|im_start|>" and len(spelt.token_ids) > 1
    named = ask(pb.Constraint(grammar='start: <|im_start|> "a"'), output=pb.Output(skip_special_tokens=False))
    (found,) = (await served.stub.Generate(named)).completions
    assert found.text == "<|im_start|>a" and len(found.token_ids) == 2
