"""The service in other number formats than its default, and on a device that is not there."""

from typing import Any

import pytest

from maas.generation.v1 import generation_pb2 as pb
from services.generation.__main__ import build
from services.generation.settings import GenerationSettings
from services.runtime.store.store import ModelStore
from tests.harness import running
from tests.service.generation import TEXT, Ask, Served, free

TEXTS = [TEXT[place:] for place in range(12)]


@pytest.fixture(params=["bf16", "fp16"])
def overrides(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"precision": request.param}


async def test_most_first_tokens_are_those_of_fp32(
    served: Served, store: ModelStore, overrides: dict[str, Any]
) -> None:
    """And the answer says in what it was computed: another digest than that of the stored files."""
    manifest = store.resolve("tiny", "")
    found = [await served.stub.Generate(Ask(text=text, stopping=free(4))) for text in TEXTS]
    settings = GenerationSettings(
        **{"store": store.root, "port": 0, "metrics_port": 0, "lame_duck_s": 0, "generate_model": "tiny"},
        precision="fp32",
        kv_cache_mib=16,
    )
    async with running(settings, build) as (channel, _):
        whole = [await type(served.stub)(channel).Generate(Ask(text=text, stopping=free(4))) for text in TEXTS]
    same = [
        one.completions[0].token_ids[0] == other.completions[0].token_ids[0]
        for one, other in zip(found, whole, strict=True)
    ]
    assert sum(same) >= 10, same
    assert served.model.manifest.precision == overrides["precision"]
    assert found[0].served_by.digest == served.model.digest != manifest.digest == whole[0].served_by.digest


async def test_a_seeded_draw_and_its_logprobs_are_told(served: Served) -> None:
    request = Ask(
        text=TEXT,
        sampling=pb.Sampling(temperature=1.0, seed=4, n=2, top_p=0.9, repetition_penalty=1.2),
        stopping=free(6),
        output=pb.Output(logprobs=3, prompt_logprobs=2),
    )
    first, again = [await served.stub.Generate(request) for _ in range(2)]
    assert first.completions == again.completions and len(first.completions) == 2
    assert all(len(one.token_ids) == 6 and one.cumulative_logprob < 0 for one in first.completions)


async def test_a_device_that_is_not_there_ends_the_start(store: ModelStore) -> None:
    settings = GenerationSettings(store=store.root, port=0, metrics_port=0, device="cuda:99")
    with pytest.raises(RuntimeError, match="MAAS_DEVICE=cuda:99: torch reaches"):
        async with running(settings, build):
            pass
