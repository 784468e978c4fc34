"""Every field of a request changes what it says it changes: a field without a case here fails the first test."""

import asyncio
import re
from collections.abc import AsyncIterator
from importlib import import_module
from itertools import pairwise

import grpc
import numpy as np
import pytest
import pytest_asyncio

from maas.common.v1 import tensor_pb2
from maas.generation.v1 import generation_pb2 as pb
from maas.generation.v1 import generation_service_pb2 as service_pb
from maas.generation.v1.generation_service_pb2_grpc import GenerationServiceStub as Stub
from services.generation import capabilities
from services.generation.__main__ import build
from services.generation.settings import GenerationSettings
from services.runtime.store.store import ModelStore
from tests.harness import running
from tests.service.generation import NAMED, Ask, free, joined, publish, refusal, words
from tests.service.generation_cases import (
    PROMPT,
    SMALL,
    TEXT,
    TOKENS,
    Answer,
    Case,
    cold,
    differing,
    ending,
    frequent,
    greedy,
    likeliest,
    logits_after,
    nucleus,
    plain,
    present,
    repetition,
    typical,
    warm,
    within,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

EOS = words().eos_id or 0
SAID = words().decode(plain())
LONG = TEXT * 20
LATER = plain()[4]


def across() -> str:
    """Two characters of the greedy text, the last of one token and the first of the next."""
    spoken = [words().decode([token]) for token in plain()]
    found = (
        a[-1] + b[0]
        for a, b in pairwise(spoken)
        if a and b and "\ufffd" not in a[-1] + b[0] and len(a) + len(b) > 2
    )
    return next(found)


def own_logprobs(answer: Answer) -> bool:
    """Two alternatives with ranks, and numbers that are the net's own."""
    found = answer.reply.completions[0].logprobs
    for place, one in enumerate(found):
        logits = logits_after(PROMPT + answer.ids[:place])
        exact = logits - np.log(np.exp(logits).sum())
        best = np.argsort(-exact)[:2].tolist()
        if [top.token_id for top in one.top] != best or [top.rank for top in one.top] != [1, 2]:
            return False
        if abs(one.chosen.logprob - exact[one.chosen.token_id]) > 1e-3:
            return False
        if one.chosen.rank != 1 + int((exact > exact[one.chosen.token_id]).sum()):
            return False
    return len(found) == TOKENS


def likelier_than_greedy(answer: Answer) -> bool:
    rows = (logits_after(PROMPT + plain()[:place]) for place in range(TOKENS))
    known = sum(row[token] - np.log(np.exp(row).sum()) for row, token in zip(rows, plain(), strict=True))
    return answer.reply.completions[0].cumulative_logprob > float(known) + 1e-3


def silent() -> Ask:
    """The prompt and one token that is not shown."""
    only = pb.Sampling(allowed_token_ids=[EOS])
    return Ask(text=TEXT, sampling=only, stopping=free(1), output=pb.Output(echo=True))


def beams() -> Ask:
    """Search among short outputs and long ones, of which the long ones win."""
    stopping = free(9, stop_token_ids=plain()[:1])
    return Ask(text=TEXT, sampling=pb.Sampling(num_beams=4, n=4), stopping=stopping)


def hot() -> Ask:
    """Drawn, from whatever seed."""
    return Ask(text=TEXT, sampling=pb.Sampling(temperature=2), stopping=free(TOKENS))


CASES = [
    # what is asked
    Case("model", "mute", lambda a: a.reply.served_by.model == "mute", cold()),
    Case("text", "fox", lambda a: a.reply.usage.prompt_tokens == len(words().encode_ids("fox")), cold()),
    Case(
        "token_ids",
        tensor_pb2.TokenIds(values=[5, 6, 7]),
        lambda a: a.reply.usage.prompt_tokens == 3,
        cold(),
    ),
    Case(
        "chat",
        pb.Chat(messages=[pb.Message(role="user", content="hi")]),
        lambda a: a.text.startswith("user\nhi\nassistant\n"),
        Ask(text=TEXT, stopping=free(3), output=pb.Output(echo=True)),
    ),
    Case("truncate_prompt_tokens", 3, lambda a: a.reply.usage.prompt_tokens == 3, cold()),
    Case(
        "truncate_prompt_tokens", 3, lambda a: a.text == words().decode(PROMPT[-3:]),
        silent(),
        told="keeps the end",
    ),
    Case(
        "cache_salt",
        "mine",
        lambda a: a.reply.usage.cached_prompt_tokens == 0,
        Ask(text=LONG, stopping=free(1)),
        before=Ask(text=LONG, stopping=free(1)),
    ),
    # how a token is chosen
    Case("sampling.temperature", 3.0, lambda a: a.ids != plain(), warm(0.0)),
    Case("sampling.top_k", 5, within(lambda p: likeliest(p, 5)), warm()),
    Case("sampling.top_k", 1, lambda a: a.ids == plain(), warm(100.0), told="of one is greedy however hot"),
    Case("sampling.top_p", 0.3, within(lambda p: nucleus(p, 0.3)), warm()),
    Case("sampling.top_p", 1e-6, lambda a: a.ids == plain(), warm(), told="of nearly nothing is greedy"),
    Case("sampling.min_p", 0.4, within(lambda p: p >= 0.4 * p.max()), warm()),
    Case("sampling.typical_p", 0.2, within(lambda p: typical(p, 0.2)), warm()),
    Case("sampling.repetition_penalty", 1.5, lambda a: a.ids == greedy(repetition(1.5, PROMPT)), cold()),
    Case("sampling.repetition_penalty", 0.5, lambda a: a.ids == greedy(repetition(0.5, PROMPT)), cold(), told="½"),
    Case("sampling.frequency_penalty", 2.0, lambda a: a.ids == greedy(frequent), cold()),
    Case("sampling.presence_penalty", 2.0, lambda a: a.ids == greedy(present), cold()),
    Case("sampling.logit_bias", {65: 100.0}, lambda a: set(a.ids) == {65}, cold()),
    Case("sampling.logit_bias", {LATER: -100.0}, lambda a: LATER not in a.ids, cold(), told="below zero"),
    Case("sampling.allowed_token_ids", [70, 71, 72], lambda a: set(a.ids) <= {70, 71, 72}, warm()),
    Case("sampling.bad_words", [SAID[2]], lambda a: SAID[2] not in a.text, cold()),
    Case("sampling.bad_words", [across()], lambda a: across() not in a.text, cold(), told="across tokens"),
    Case("sampling.seed", 8, lambda a: a.reply.seed == 8, hot()),
    Case("sampling.n", 3, lambda a: len({one.text for one in a.reply.completions}) == 3, warm()),
    Case("sampling.best_of", 4, lambda a: a.reply.usage.completion_tokens == 4 * TOKENS, warm()),
    Case("sampling.num_beams", 4, likelier_than_greedy, cold()),
    Case("sampling.length_penalty", -10.0, lambda a: len(a.ids) == 1, beams()),
    # when it ends
    Case("stopping.max_tokens", 3, lambda a: len(a.ids) == 3 and a.finish == pb.FINISH_REASON_LENGTH, cold()),
    Case("stopping.min_tokens", 5, lambda a: len(a.ids) == 6 and a.finish == pb.FINISH_REASON_EOS, ending()),
    Case("stopping.min_tokens", 8, lambda a: len(a.ids) >= 8, cold(stop=[SAID[0]]), told="holds off stop strings"),
    Case(
        "stopping.min_tokens",
        TOKENS,
        lambda a: len(a.ids) == TOKENS and LATER not in a.ids[:-1],
        cold(stop_token_ids=[LATER]),
        told="holds off stop tokens",
    ),
    Case(
        "stopping.stop",
        [across()],
        lambda a: a.text == SAID[: SAID.index(across())] and a.reply.completions[0].stop_match.text == across(),
        cold(),
        told="across tokens",
    ),
    Case(
        "stopping.stop_token_ids",
        [LATER],
        lambda a: a.ids == plain()[: plain().index(LATER) + 1]
        and a.reply.completions[0].stop_match.token_id == LATER
        and a.finish == pb.FINISH_REASON_STOP,
        cold(),
    ),
    Case("stopping.ignore_eos", True, lambda a: len(a.ids) == 9 and a.finish == pb.FINISH_REASON_LENGTH, ending()),
    Case("stopping.include_stop", True, lambda a: a.text.endswith(across()), cold(stop=[across()])),
    # its shape
    Case("constraint.json_object", True, lambda a: a.text.lstrip().startswith("{"), cold()),
    Case("constraint.regex", "[ab]{3,9}", lambda a: bool(re.fullmatch("[ab]{3,9}", a.text)), cold()),
    Case("constraint.choice", pb.Choice(values=["yes", "no"]), lambda a: a.text in ("yes", "no"), cold()),
    Case("constraint.grammar", 'start: "a" | "bc"', lambda a: a.text in ("a", "bc"), cold()),
    Case("constraint.json_schema", '{"enum": ["red", "blue"]}', lambda a: a.text in ('"red"', '"blue"'), cold()),
    # what is told
    Case("output.logprobs", 2, own_logprobs, cold()),
    Case(
        "output.prompt_logprobs",
        1,
        lambda a: [one.chosen.token_id for one in a.reply.prompt_logprobs] == PROMPT[1:],
        cold(),
    ),
    Case("output.echo", True, lambda a: a.text == words().decode(PROMPT) + SAID, cold()),
    Case(
        "output.stream_interval_tokens",
        TOKENS,
        lambda a: [len(message.token_ids) for message in a.messages] == [TOKENS],
        cold(),
        streams=True,
    ),
    Case(
        "output.skip_special_tokens",
        False,
        lambda a: a.text == "<|im_end|>" * 9,
        ending(ignore_eos=True),
    ),
]  # fmt: skip
# Fields that take more than one request to see, and the test that sees them.
ELSEWHERE = {
    "priority": "test_generation_order.test_a_higher_priority_goes_first",
    "version": "test_generation_order.test_a_version_is_the_one_that_answers",
    "adapter": "test_generation_adapters.test_each_request_gets_its_adapter_all_in_one_batch",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stub]:
    store = ModelStore(tmp_path_factory.mktemp("small"))
    for name in ("tiny", "mute"):
        publish(store, name, SMALL, **NAMED)
    settings = GenerationSettings(
        store=store.root, port=0, metrics_port=0, lame_duck_s=0, drain_s=5, generate_model="tiny", kv_cache_mib=16
    )
    async with running(settings, build) as (channel, _):
        yield Stub(channel)


async def answer(stub: Stub, case: Case, request: Ask) -> Answer:
    if case.before is not None:
        await stub.Generate(case.before)
    if not case.streams:
        return Answer(await stub.Generate(request), [])
    messages, whole = await joined(stub, request)
    return Answer(service_pb.GenerateResponse(completions=whole.values()), messages)


async def test_every_field_has_a_case() -> None:
    fields = set(capabilities.names(Ask.DESCRIPTOR))
    cases = {case.field for case in CASES} | set(ELSEWHERE)
    assert cases <= fields, "no such field"
    missing = fields & capabilities.ENGINE - cases
    assert not missing, f"{sorted(missing)}: add a case that fails where the field is ignored"
    for name in ELSEWHERE.keys() & capabilities.ENGINE:
        module, _, test = ELSEWHERE[name].partition(".")
        assert callable(getattr(import_module(f"tests.service.{module}"), test))


@pytest.mark.parametrize("case", [case for case in CASES if case.field in capabilities.ENGINE], ids=str)
async def test_a_field_does_what_it_says_and_nothing_else_does(shared: Stub, case: Case) -> None:
    given, without = case.requests
    assert given != without
    assert case.holds(await answer(shared, case, given)), "the field is ignored"
    assert not case.holds(await answer(shared, case, without)), "the check holds without the field"


@pytest.mark.parametrize("case", [case for case in CASES if case.field not in capabilities.ENGINE], ids=str)
async def test_what_is_not_served_is_refused_by_name(shared: Stub, case: Case) -> None:
    code, _, text = await refusal(shared.Generate(case.requests[0]))
    assert code is grpc.StatusCode.UNIMPLEMENTED and case.field in text


async def test_penalties_are_different_ones_and_the_prompt_matters_to_the_first() -> None:
    assert differing(PROMPT)


async def test_an_unset_seed_is_drawn_and_told(shared: Stub) -> None:
    request = hot()
    first, second = await asyncio.gather(shared.Generate(request), shared.Generate(request))
    assert first.seed != second.seed
    again = hot()
    again.sampling.seed = first.seed
    assert (await shared.Generate(again)).completions == first.completions
