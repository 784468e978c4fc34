"""The generation service over a real server and stub, with a tiny random model and a tokenizer trained here."""

import asyncio
import math
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import torch
from google.rpc import error_details_pb2
from grpc import aio
from safetensors.torch import save_file

from maas.common.v1 import tensor_pb2
from maas.generation.v1 import generation_pb2 as pb
from maas.generation.v1 import generation_service_pb2 as service_pb
from maas.generation.v1.generation_service_pb2_grpc import (
    GenerationServiceStub as Stub,
)
from maas.generation.v1.generation_service_pb2_grpc import (
    add_GenerationServiceServicer_to_server,
)
from services.generation import answers
from services.generation.__main__ import build, open_host
from services.generation.engine.engine import Engine
from services.generation.model import GenerationModel
from services.generation.models import registry
from services.generation.models.causal_lm import CausalLM
from services.generation.service import TASK, GenerationService
from services.generation.settings import GenerationSettings
from services.runtime.host import ModelHost
from services.runtime.server import Floor
from services.runtime.status import status_of
from services.runtime.store.store import ModelStore
from services.runtime.text.tokenizer import Tokenizer
from tests.harness import running
from tests.unit.runtime.text.made import CHATML, byte_level, from_library

CONTEXT = 200
TEXT = "the quick brown fox, héllo 日本語"
NAMED = {"eos_token": "<|im_end|>", "pad_token": "<|im_end|>", "chat_template": CHATML}
CONFIG = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": True,
}
WARM = pb.Sampling(temperature=1.5, seed=7)

Ask = service_pb.GenerateRequest


def net() -> CausalLM:
    torch.manual_seed(3)
    model = registry.build("LlamaForCausalLM", CONFIG).eval().requires_grad_(False)
    for weight in model.parameters():
        weight.data += torch.randn_like(weight) * 0.3
    return model


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    torch.set_num_threads(1)
    made = ModelStore(tmp_path_factory.mktemp("store"))
    for name, spec in (("tiny", NAMED), ("mute", {"eos_token": "<|im_end|>"})):
        with made.publish(name) as draft:
            (draft.directory / "tokenizer.json").write_text(byte_level().to_str())
            save_file(
                {f"model.{k}": v for k, v in net().state_dict().items()}, draft.directory / "model.safetensors"
            )
            draft.fields.update(
                tasks=["generation.generate"],
                architecture="LlamaForCausalLM",
                config=CONFIG,
                runner="engine",
                tokenizer={"file": "tokenizer.json"} | spec,
            )
    return made


@dataclass
class Served:
    """A running service and what lies behind it."""

    stub: Stub
    host: ModelHost[GenerationModel]

    @property
    def model(self) -> GenerationModel:
        with self.host.lease("tiny", "", TASK) as found:
            return found

    @property
    def engine(self) -> Engine:
        return self.model.worker.engine


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {}


@pytest.fixture
async def served(store: ModelStore, overrides: dict[str, Any]) -> AsyncIterator[Served]:
    values = {
        "port": 0,
        "metrics_port": 0,
        "lame_duck_s": 0,
        "drain_s": 5,
        "generate_model": "tiny",
        "kv_cache_mib": 16,
    }
    hosts: list[ModelHost[GenerationModel]] = []

    async def build_kept(floor: Floor[GenerationSettings]) -> None:
        hosts.append(open_host(floor))
        floor.add(add_GenerationServiceServicer_to_server, GenerationService(hosts[0]))

    async with running(GenerationSettings(store=store.root, **{**values, **overrides}), build_kept) as (
        channel,
        _,
    ):
        yield Served(Stub(channel), hosts[0])


@pytest.fixture
def stub(served: Served) -> Stub:
    return served.stub


def words() -> Tokenizer:
    return from_library(byte_level(), **NAMED)


def free(tokens: int = 24, **stopping: Any) -> pb.Stopping:
    return pb.Stopping(max_tokens=tokens, ignore_eos=True, **stopping)


def streamed(request: Ask) -> service_pb.GenerateStreamRequest:
    """The same request for GenerateStream."""
    copied = {field.name: value for field, value in request.ListFields()}
    return service_pb.GenerateStreamRequest(**copied)


async def joined(
    stub: Stub, request: Ask
) -> tuple[list[service_pb.GenerateStreamResponse], dict[int, pb.Completion]]:
    """All messages of a stream, and what they join to."""
    messages = [message async for message in stub.GenerateStream(streamed(request))]
    whole: dict[int, pb.Completion] = {}
    for message in messages:
        one = whole.setdefault(message.index, pb.Completion(index=message.index))
        one.text += message.text_delta
        one.token_ids.extend(message.token_ids)
        one.logprobs.extend(message.logprobs)
        if message.finish_reason:
            assert not one.finish_reason
            one.finish_reason = message.finish_reason
            if message.HasField("stop_match"):
                one.stop_match.CopyFrom(message.stop_match)
    return messages, whole


async def refusal(call: Any) -> tuple[grpc.StatusCode, list[str], str]:
    """Code, violated fields and text of a call that must fail."""
    with pytest.raises(aio.AioRpcError) as error:
        await call
    bad = error_details_pb2.BadRequest()
    for detail in status_of(error.value).details:
        detail.Unpack(bad)
    return error.value.code(), [one.field for one in bad.field_violations], error.value.details() or ""


async def idle(engine: Engine) -> int:
    """Waits until the engine has nothing to do; its steps then."""
    async with asyncio.timeout(10):
        while engine.busy:
            await asyncio.sleep(0)
    return engine.steps


async def test_greedy_text_is_the_models_own(stub: Stub) -> None:
    reply = await stub.Generate(Ask(text=TEXT, stopping=free()))
    model, ids = net(), words().encode_ids(TEXT)
    for _ in range(24):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    (found,) = reply.completions
    prompt = len(words().encode_ids(TEXT))
    assert list(found.token_ids) == ids[prompt:]
    assert found.text == words().decode(ids[prompt:])
    assert found.finish_reason == pb.FINISH_REASON_LENGTH
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (prompt, 24)
    assert reply.served_by.model == "tiny" and reply.served_by.digest.startswith("sha256:")
    assert reply.timing.compute_ms > 0 and reply.timing.batch_size == 1 and reply.seed == 0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("interval", [1, 5])
async def test_a_stream_joins_to_the_unary_answer(stub: Stub, seed: int, interval: int) -> None:
    request = Ask(
        text=TEXT,
        sampling=pb.Sampling(temperature=3.0, seed=seed, n=3),
        stopping=free(40, stop=["e", "the"]),
        output=pb.Output(logprobs=1, echo=seed % 2 == 0, stream_interval_tokens=interval),
    )
    unary = await stub.Generate(request)
    messages, whole = await joined(stub, request)
    for expected in unary.completions:
        found = whole[expected.index]
        found.cumulative_logprob = expected.cumulative_logprob
        assert found == expected
    assert [message.sequence_number for message in messages] == list(range(1, len(messages) + 1))
    assert messages[0].seed == seed and messages[0].served_by == unary.served_by and messages[0].stream_id
    assert messages[-1].usage.completion_tokens == unary.usage.completion_tokens
    assert not any(message.HasField("usage") for message in messages[:-1])
    assert all(len(message.token_ids) >= interval for message in messages if not message.finish_reason)


async def test_chat_is_the_template_and_ids_are_taken_as_they_are(stub: Stub) -> None:
    chat = await stub.Generate(
        Ask(chat=pb.Chat(messages=[pb.Message(role="user", content="hi")]), stopping=free())
    )
    ids = words().encode_ids("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")
    for given in (tensor_pb2.TokenIds(values=ids), tensor_pb2.TokenIds(packed=struct.pack(f"<{len(ids)}I", *ids))):
        same = await stub.Generate(Ask(token_ids=given, stopping=free()))
        assert same.completions == chat.completions


async def test_the_end_token_ends(served: Served) -> None:
    (eos,) = served.model.eos_token_ids
    bias = pb.Sampling(logit_bias={eos: 100})
    reply = await served.stub.Generate(Ask(text=TEXT, sampling=bias))
    (found,) = reply.completions
    assert (found.finish_reason, list(found.token_ids), found.text) == (pb.FINISH_REASON_EOS, [eos], "")
    shown = await served.stub.Generate(
        Ask(text=TEXT, sampling=bias, stopping=free(3), output=pb.Output(skip_special_tokens=False))
    )
    assert shown.completions[0].text == "<|im_end|>" * 3


async def test_stops_are_named(stub: Stub) -> None:
    whole = (await stub.Generate(Ask(text=TEXT, sampling=WARM, stopping=free()))).completions[0]
    stop = whole.text[5:8]
    by_text = (await stub.Generate(Ask(text=TEXT, sampling=WARM, stopping=free(stop=[stop])))).completions[0]
    assert by_text.stop_match.text == stop and by_text.finish_reason == pb.FINISH_REASON_STOP
    assert by_text.text == whole.text[: whole.text.index(stop)]
    token = whole.token_ids[3]
    request = Ask(text=TEXT, sampling=WARM, stopping=free(stop_token_ids=[token]))
    by_token = (await stub.Generate(request)).completions[0]
    assert by_token.stop_match.token_id == token and by_token.token_ids[-1] == token


async def test_bad_words_never_appear(stub: Stub) -> None:
    plain = (await stub.Generate(Ask(text=TEXT, sampling=WARM, stopping=free(60)))).completions[0].text
    letters = sorted(set(plain) - {"\ufffd"})[:20]
    kept = (
        (
            await stub.Generate(
                Ask(text=TEXT, sampling=pb.Sampling(temperature=1.5, seed=7, bad_words=letters), stopping=free(60))
            )
        )
        .completions[0]
        .text
    )
    assert letters and not set(letters) & set(kept)


async def test_seeds(stub: Stub) -> None:
    async def text(**sampling: Any) -> tuple[str, int]:
        request = Ask(text=TEXT, sampling=pb.Sampling(temperature=2, **sampling), stopping=free())
        reply = await stub.Generate(request)
        return reply.completions[0].text, reply.seed

    chosen, seed = await text()
    assert (await text(seed=seed)) == (chosen, seed)
    assert (await text())[1] != seed
    assert (await text(seed=2**64 - 1))[1] == 2**64 - 1


async def test_n_and_best_of(stub: Stub) -> None:
    def request(**counts: int) -> Ask:
        return Ask(text=TEXT, sampling=pb.Sampling(temperature=2, seed=1, **counts), stopping=free())

    many = await stub.Generate(request(n=5))
    assert [one.index for one in many.completions] == list(range(5))
    assert len({one.text for one in many.completions}) == 5
    best = await stub.Generate(request(n=2, best_of=5))
    ranked = sorted(many.completions, key=lambda one: one.cumulative_logprob, reverse=True)
    assert [one.text for one in best.completions] == [one.text for one in ranked[:2]]
    assert best.usage.completion_tokens == 5 * 24


async def test_log_probabilities(stub: Stub) -> None:
    request = Ask(text=TEXT, stopping=free(4), output=pb.Output(logprobs=2, prompt_logprobs=1))
    reply = await stub.Generate(request)
    messages, _ = await joined(stub, request)
    ids = words().encode_ids(TEXT)
    (found,) = reply.completions
    exact = net()(torch.tensor([ids + list(found.token_ids)]))[0].log_softmax(-1)
    assert [one.chosen.token_id for one in reply.prompt_logprobs] == ids[1:]
    for place, one in enumerate([*reply.prompt_logprobs, *found.logprobs]):
        assert one.chosen.logprob == pytest.approx(float(exact[place, one.chosen.token_id]), abs=1e-4)
        assert one.chosen.rank == int((exact[place] > exact[place, one.chosen.token_id]).sum()) + 1
        assert one.top[0].token_id == int(exact[place].argmax()) and one.top[0].rank == 1
    assert [len(one.top) for one in found.logprobs] == [2] * 4
    assert found.cumulative_logprob == pytest.approx(sum(one.chosen.logprob for one in found.logprobs), abs=1e-4)
    assert messages[0].prompt_logprobs == reply.prompt_logprobs


async def test_long_answers_are_written_on_a_thread(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    write = answers._positions

    def noted(*given: Any) -> Iterator[pb.PositionLogprobs]:
        seen.append(threading.current_thread().name)
        return write(*given)

    monkeypatch.setattr(answers, "_positions", noted)
    asked = Ask(text=TEXT * 3, output=pb.Output(prompt_logprobs=100), stopping=free(1))
    reply = await stub.Generate(asked)
    assert sum(len(one.top) for one in reply.prompt_logprobs) > 1000
    (first,), _ = await joined(stub, asked)
    assert first.prompt_logprobs == reply.prompt_logprobs
    await stub.Score(service_pb.ScoreRequest(text=TEXT * 3, top_logprobs=100))
    assert len(seen) >= 5 and all(name.startswith("generation-text") for name in seen)
    seen.clear()
    await stub.Score(service_pb.ScoreRequest(text=TEXT))
    assert seen == [threading.current_thread().name]


async def test_the_prefix_cache_is_counted_and_salted(stub: Stub) -> None:
    async def cached(**fields: Any) -> int:
        reply = await stub.Generate(Ask(text=TEXT * 3, stopping=free(2), **fields))
        return reply.usage.cached_prompt_tokens

    assert await cached() == 0
    assert await cached() == len(words().encode_ids(TEXT * 3)) // 16 * 16
    assert await cached(cache_salt="mine") == 0


async def test_truncation_keeps_the_end(stub: Stub) -> None:
    ids = words().encode_ids(TEXT)
    cut = await stub.Generate(
        Ask(text=TEXT, truncate_prompt_tokens=5, stopping=free(), output=pb.Output(echo=True))
    )
    last = await stub.Generate(Ask(token_ids=tensor_pb2.TokenIds(values=ids[-5:]), stopping=free()))
    assert cut.usage.prompt_tokens == 5
    assert cut.completions[0].text == words().decode(ids[-5:]) + last.completions[0].text


async def test_max_tokens_is_clipped_to_the_context(stub: Stub) -> None:
    reply = await stub.Generate(Ask(text=TEXT, stopping=pb.Stopping(max_tokens=10_000, ignore_eos=True)))
    assert reply.usage.prompt_tokens + reply.usage.completion_tokens == CONTEXT
    assert reply.completions[0].finish_reason == pb.FINISH_REASON_LENGTH


async def test_score(stub: Stub) -> None:
    ids = words().encode_ids(TEXT)
    exact = net()(torch.tensor([ids]))[0].log_softmax(-1)
    rows = [float(exact[place, token]) for place, token in enumerate(ids[1:])]
    whole = await stub.Score(service_pb.ScoreRequest(text=TEXT, top_logprobs=2))
    assert [one.chosen.token_id for one in whole.tokens] == ids[1:] and len(whole.tokens[0].top) == 2
    assert whole.total_logprob == pytest.approx(sum(rows), abs=1e-3) and whole.scored_tokens == len(rows)
    assert whole.perplexity == pytest.approx(math.exp(-sum(rows) / len(rows)), rel=1e-4)
    parted = await stub.Score(
        service_pb.ScoreRequest(
            token_ids=tensor_pb2.TokenIds(values=ids[:-2]), continuation=words().decode(ids[-2:]), tokens=False
        )
    )
    assert parted.scored_tokens == len(words().encode_ids(words().decode(ids[-2:]))) and not parted.tokens
    assert parted.total_logprob == pytest.approx(sum(rows[-parted.scored_tokens :]), abs=1e-3)


async def test_requests_at_once_get_their_own_answers(stub: Stub) -> None:
    requests = [
        Ask(
            text=TEXT[: 3 + 2 * place],
            sampling=pb.Sampling(temperature=place % 3, seed=place),
            stopping=free(10 + place),
        )
        for place in range(12)
    ]
    one_by_one = [(await stub.Generate(request)).completions for request in requests]
    together = await asyncio.gather(*(stub.Generate(request) for request in requests))
    assert [reply.completions for reply in together] == one_by_one
    assert max(reply.timing.batch_size for reply in together) > 1


Field = tuple[str, Callable[[], Ask], str, str]
HUGE = tensor_pb2.TokenIds(values=[1, 10**9])
REFUSED: list[tuple[Ask, str, str]] = [
    (Ask(text=TEXT, sampling=pb.Sampling(temperature=-1)), "sampling.temperature", "at least 0"),
    (Ask(text=TEXT, sampling=pb.Sampling(temperature=math.nan)), "sampling.temperature", "finite"),
    (Ask(text=TEXT, sampling=pb.Sampling(top_p=1.5)), "sampling.top_p", "at most 1"),
    (Ask(token_ids=HUGE), "token_ids.values[1]", "0 to 399"),
    (Ask(token_ids=tensor_pb2.TokenIds()), "token_ids", "no tokens"),
    (Ask(text=""), "text", "no tokens"),
    (Ask(), "prompt", "must be set"),
    (Ask(text="word " * 500), "text", f"context of {CONTEXT}"),
    (Ask(text=TEXT, stopping=pb.Stopping(max_tokens=0)), "stopping.max_tokens", "at least 1"),
    (Ask(text=TEXT, stopping=pb.Stopping(max_tokens=2, min_tokens=3)), "stopping.min_tokens", "at most 2"),
    (Ask(text=TEXT, stopping=pb.Stopping(stop=[""])), "stopping.stop[0]", "empty"),
    (Ask(text=TEXT, stopping=pb.Stopping(stop_token_ids=[1, 400])), "stopping.stop_token_ids[1]", "0 to 399"),
    (Ask(text=TEXT, sampling=pb.Sampling(allowed_token_ids=[400])), "sampling.allowed_token_ids[0]", "0 to 399"),
    (Ask(text=TEXT, sampling=pb.Sampling(logit_bias={400: 1.0})), "sampling.logit_bias[400]", "0 to 399"),
    (Ask(text=TEXT, sampling=pb.Sampling(n=3, best_of=2)), "sampling.best_of", "less than n"),
    (Ask(chat=pb.Chat(messages=[pb.Message(role="wizard", content="x")])), "chat.messages[0].role", "wizard"),
]


@pytest.mark.parametrize(("request_", "field", "said"), REFUSED, ids=[f"{field}" for _, field, _ in REFUSED])
async def test_bad_fields_are_named_with_limit_and_fix(stub: Stub, request_: Ask, field: str, said: str) -> None:
    code, fields, text = await refusal(stub.Generate(request_))
    assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field]) and said in text
    if field != "prompt":
        code, fields, text = await refusal(joined(stub, request_))
        assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field]) and said in text
    assert (await stub.Generate(Ask(text=TEXT, stopping=free(1)))).completions


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("constraint", {"constraint": pb.Constraint(regex="a+")}),
        ("adapter", {"adapter": "mine"}),
        ("sampling.num_beams", {"sampling": pb.Sampling(num_beams=2)}),
        ("sampling.length_penalty", {"sampling": pb.Sampling(length_penalty=1.0)}),
    ],
)
async def test_what_is_not_served_is_refused_by_name(stub: Stub, field: str, values: dict[str, Any]) -> None:
    code, _, text = await refusal(stub.Generate(Ask(text=TEXT, **values)))
    assert code is grpc.StatusCode.UNIMPLEMENTED and field in text


async def test_resume_and_best_of_are_not_for_streams(stub: Stub) -> None:
    call = stub.GenerateStream(service_pb.GenerateStreamRequest(resume=pb.Resume(stream_id="x")))
    assert (await refusal(call.read()))[0] is grpc.StatusCode.UNIMPLEMENTED
    code, fields, _ = await refusal(joined(stub, Ask(text=TEXT, sampling=pb.Sampling(n=1, best_of=2))))
    assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["sampling.best_of"])


async def test_other_refusals(stub: Stub) -> None:
    chat = pb.Chat(messages=[pb.Message(role="user", content="hi")])
    assert (await refusal(stub.Generate(Ask(model="mute", chat=chat))))[0] is grpc.StatusCode.FAILED_PRECONDITION
    ids = tensor_pb2.TokenIds(values=[1, 2], tokenizer_digest="sha256:other")
    assert (await refusal(stub.Generate(Ask(token_ids=ids))))[0] is grpc.StatusCode.FAILED_PRECONDITION
    assert (await refusal(stub.Generate(Ask(model="none", text=TEXT))))[0] is grpc.StatusCode.NOT_FOUND
    short = service_pb.ScoreRequest(token_ids=tensor_pb2.TokenIds(values=[5]))
    code, fields, _ = await refusal(stub.Score(short))
    assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["token_ids"])


async def test_no_choice_left_fails_its_request_alone(stub: Stub) -> None:
    eos = words().eos_id
    hopeless = Ask(
        text=TEXT,
        sampling=pb.Sampling(allowed_token_ids=[eos or 0]),
        stopping=pb.Stopping(min_tokens=2, max_tokens=9),
    )
    good, bad = await asyncio.gather(
        stub.Generate(Ask(text=TEXT, stopping=free())), refusal(stub.Generate(hopeless))
    )
    assert bad[:2] == (grpc.StatusCode.INVALID_ARGUMENT, ["sampling"]) and good.usage.completion_tokens == 24


async def test_a_penalty_near_zero_is_refused_and_a_hundredth_is_not(stub: Stub) -> None:
    def asked(penalty: float) -> Ask:
        return Ask(text=TEXT, sampling=pb.Sampling(repetition_penalty=penalty), stopping=free(3))

    code, fields, text = await refusal(stub.Generate(asked(1e-42)))
    assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["sampling.repetition_penalty"])
    assert "at least 0.01" in text
    assert (await stub.Generate(asked(0.01))).usage.completion_tokens == 3


async def test_a_cancelled_stream_stops_the_engine(served: Served) -> None:
    await idle(served.engine)
    call = served.stub.GenerateStream(streamed(Ask(text=TEXT, stopping=free(150))))
    for _ in range(3):
        await call.read()
    call.cancel()
    steps = await idle(served.engine)
    assert steps < 150
    assert served.engine.scheduler.pool.available == served.engine.scheduler.pool.usable
    await served.stub.Generate(Ask(text=TEXT, stopping=free(1)))
    assert served.engine.steps == steps + 1


async def test_a_cancelled_unary_call_stops_the_engine(served: Served) -> None:
    before = await idle(served.engine)
    call = served.stub.Generate(Ask(text=TEXT, stopping=free(150)))
    async with asyncio.timeout(10):
        while served.engine.steps < before + 3:
            await asyncio.sleep(0)
    call.cancel()
    assert await idle(served.engine) < before + 150


async def test_a_failed_step_is_internal_and_the_next_request_works(served: Served) -> None:
    runner = served.engine.runner
    served.engine.runner = None  # type: ignore[assignment]
    code, _, text = await refusal(served.stub.Generate(Ask(text=TEXT)))
    served.engine.runner = runner
    assert code is grpc.StatusCode.INTERNAL and "runner" not in text and "NoneType" not in text
    assert (await served.stub.Generate(Ask(text=TEXT, stopping=free(3)))).usage.completion_tokens == 3


@pytest.mark.parametrize("overrides", [{"batch_sequences": 1, "queue_limit": 3}])
async def test_a_full_queue_says_when_to_come_back(served: Served) -> None:
    with pytest.raises(aio.AioRpcError) as error:
        await served.stub.Generate(Ask(text=TEXT, sampling=pb.Sampling(n=5)))
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    kinds = [detail.TypeName() for detail in status_of(error.value).details]
    assert "google.rpc.RetryInfo" in kinds
    reply = await served.stub.Generate(Ask(text=TEXT, sampling=pb.Sampling(n=4), stopping=free(3)))
    assert len(reply.completions) == 4 and reply.timing.batch_size == 1


async def test_the_deadline_ends_the_compute(served: Served) -> None:
    before = await idle(served.engine)
    requests = [Ask(text=TEXT, stopping=free(180)) for _ in range(4)]
    calls = [served.stub.Generate(request, timeout=0.05) for request in requests]
    codes = [(await refusal(call))[0] for call in calls]
    assert codes == [grpc.StatusCode.DEADLINE_EXCEEDED] * 4
    assert await idle(served.engine) < before + 150


@pytest.mark.models
async def test_smollm2_knows_the_capital_of_france(model_store: ModelStore) -> None:
    chat = pb.Chat(messages=[pb.Message(role="user", content="What is the capital of France?")])
    settings = GenerationSettings(store=model_store.root, port=0, metrics_port=0, lame_duck_s=0, kv_cache_mib=64)
    async with running(settings, build) as (channel, _):
        stub = Stub(channel)
        (found,) = (await stub.Generate(Ask(chat=chat))).completions
        _, whole = await joined(stub, Ask(chat=chat))
    assert (found.text, found.finish_reason) == ("The capital of France is Paris.", pb.FINISH_REASON_EOS)
    assert whole[0].text == found.text
