"""Log probabilities of outputs, prompts and scored texts, over a real server and stub."""

import math
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from maas.common.v1 import tensor_pb2
from maas.generation.v1 import generation_pb2 as pb
from maas.generation.v1 import generation_service_pb2 as service_pb
from maas.generation.v1.generation_service_pb2_grpc import (
    GenerationServiceStub as Stub,
)
from services.generation import answers
from tests.service.generation import TEXT, Ask, free, joined, net, words


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
    assert len(seen) == 1 and not seen[0].startswith("generation-text")


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
