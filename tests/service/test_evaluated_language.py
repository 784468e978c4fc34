"""The loss that an evaluation tells is the one that Score serves for the same tokens."""

from pathlib import Path

import pytest

from maas.common.v1 import tensor_pb2
from maas.generation.v1 import generation_service_pb2 as pb
from maas.generation.v1.generation_service_pb2_grpc import GenerationServiceStub
from services.generation.__main__ import build
from services.generation.settings import GenerationSettings
from services.runtime.text import tokenizer
from tests.harness import running
from tests.unit.training import stored
from training.judges.language import stream_of

TEXTS = ["the lazy dog", "héllo 日本"]


async def test_the_loss_is_what_score_serves(tmp_path: Path) -> None:
    model = stored.language_model(tmp_path / "store", positions=64)
    (tmp_path / "own.txt").write_text("\n".join(TEXTS))
    report = model.evaluate(tmp_path / "own.txt")
    words = tokenizer.load(model.manifest, model.store.directory(model.manifest))
    ids = stream_of(TEXTS, words).ids.tolist()
    settings = GenerationSettings(
        port=0, metrics_port=0, store=model.store.root, lame_duck_s=0, drain_s=1, generate_model="small",
        kv_cache_mib=16, threads=1,
    )  # fmt: skip
    async with running(settings, build) as (channel, _):
        asked = pb.ScoreRequest(token_ids=tensor_pb2.TokenIds(values=ids), tokens=False)
        served = await GenerationServiceStub(channel).Score(asked)
    assert served.scored_tokens == report.details["tokens"] == len(ids) - 1
    assert report.metrics["loss"] == pytest.approx(-served.total_logprob / served.scored_tokens, rel=1e-5)
    assert report.metrics["perplexity"] == pytest.approx(served.perplexity, rel=1e-4)
