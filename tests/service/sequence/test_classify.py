"""Classify: audio by its frames, and texts on a tiny model published here."""

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch

from maas.common.v1 import tensor_pb2
from maas.sequence.v1 import sequence_service_pb2 as pb
from maas.sequence.v1.sequence_service_pb2_grpc import SequenceServiceStub
from services.runtime.store.store import ModelStore
from services.sequence.__main__ import build
from services.sequence.settings import SequenceSettings
from tests.harness import running
from tests.service.sequence.calls import FRAMES, packed, refused

pytestmark = [pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]


async def test_classify_tells_voice_from_silence(stub: Any) -> None:
    voice, silence = FRAMES[18:64].ravel(), np.zeros(16000, np.float32)
    request = pb.ClassifyRequest(step_scores=True)
    request.series.values.extend([packed(voice), packed(silence)])
    reply = await stub.Classify(request)
    first, second = reply.results
    assert [label.name for label in first.labels] == ["speech", "silence"]
    assert [label.name for label in second.labels] == ["silence", "speech"]
    assert first.labels[0].index == 1
    assert sum(label.score for label in first.labels) == pytest.approx(1)
    assert (len(first.step_scores), len(second.step_scores), first.step_ms) == (46, 32, 32.0)
    assert first.labels[0].score == pytest.approx(np.mean(first.step_scores), abs=1e-5)
    assert (reply.served_by.model, reply.served_by.version) == ("silero-vad", "1")
    assert reply.served_by.digest.startswith("sha256:")
    assert reply.timing.total_ms > 0


async def test_classify_of_many_equals_one_by_one(stub: Any) -> None:
    clips = [FRAMES[start : start + length].ravel() for start, length in ((0, 80), (20, 3), (40, 31), (5, 64))]
    together = pb.ClassifyRequest(step_scores=True)
    together.series.values.extend(map(packed, clips))
    for clip, joint in zip(clips, (await stub.Classify(together)).results, strict=True):
        alone = pb.ClassifyRequest(step_scores=True)
        alone.series.values.append(packed(clip))
        (single,) = (await stub.Classify(alone)).results
        np.testing.assert_allclose(joint.step_scores, single.step_scores, atol=1e-4)


async def test_top_k_limits_labels_and_steps_are_left_out_unless_asked(stub: Any) -> None:
    request = pb.ClassifyRequest(top_k=1)
    request.series.values.append(packed(np.zeros(600)))
    (result,) = (await stub.Classify(request)).results
    assert [label.name for label in result.labels] == ["silence"]
    assert not result.step_scores


async def test_more_labels_than_classes_are_refused(stub: Any) -> None:
    request = pb.ClassifyRequest(top_k=3)
    request.series.values.append(packed(np.zeros(600)))
    await refused(stub.Classify(request), grpc.StatusCode.INVALID_ARGUMENT, "top_k", "silero-vad has 2 classes")


@pytest.mark.parametrize(
    ("series", "field"),
    [
        (tensor_pb2.Series(values=[0.1, float("nan")]), "series.values[0].values[1]"),
        (packed(np.array([0.1, 0.2, np.inf])), "series.values[0].values[2]"),
        (tensor_pb2.Series(), "series.values[0]"),
        (tensor_pb2.Series(packed=b"12345"), "series.values[0].packed"),
        (tensor_pb2.Series(values=[0.1] * 4, features=2), "series.values[0].features"),
        (tensor_pb2.Series(values=[0.1] * 512, sample_rate_hz=8000), "series.values[0].sample_rate_hz"),
        (tensor_pb2.Series(values=[12000.0]), "series.values[0].values[0]"),
    ],
)
async def test_bad_series_are_named(stub: Any, series: tensor_pb2.Series, field: str) -> None:
    request = pb.ClassifyRequest()
    request.series.values.append(series)
    await refused(stub.Classify(request), grpc.StatusCode.INVALID_ARGUMENT, field)
    await test_top_k_limits_labels_and_steps_are_left_out_unless_asked(stub)


async def test_text_classification_says_what_is_there_instead(stub: Any) -> None:
    request = pb.ClassifyRequest()
    request.texts.values.append("hello")
    await refused(stub.Classify(request), grpc.StatusCode.NOT_FOUND, said="silero-vad")


@pytest.fixture
def tiny_store(tmp_path: Path) -> Path:
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers

    from services.sequence.models import registry

    config = {"vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config |= {"intermediate_size": 16, "max_position_embeddings": 6, "num_labels": 3}
    words = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "good", "bad", "film"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(1)
    weights = registry.build("BertForSequenceClassification", config).state_dict()
    inputs = [
        {"name": n, "dtype": "int64", "shape": [-1, -1]} for n in ("input_ids", "attention_mask", "token_type_ids")
    ]
    with ModelStore(tmp_path).publish("bert-classify") as draft:
        save_file(weights, draft.directory / "model.safetensors")
        tokenizer.save(str(draft.directory / "tokenizer.json"))
        (draft.directory / "labels.txt").write_text("negative\nneutral\npositive\n")
        draft.fields.update(
            tasks=["sequence.classify"],
            architecture="BertForSequenceClassification",
            config=config,
            inputs=inputs,
            outputs=[{"name": "logits", "dtype": "float32", "shape": [-1, 3]}],
            labels="labels.txt",
            tokenizer={"kind": "huggingface", "file": "tokenizer.json"},
        )
    return tmp_path


async def test_text_classification_ranks_named_classes(tiny_store: Path) -> None:
    chosen = SequenceSettings(port=0, store=tiny_store, lame_duck_s=0, drain_s=1, metrics_port=0)
    async with running(chosen, build) as (channel, _):
        stub = SequenceServiceStub(channel)
        request = pb.ClassifyRequest(texts=tensor_pb2.Texts(values=["good film", "bad"]))
        results = (await stub.Classify(request)).results
        for result in results:
            scores = [label.score for label in result.labels]
            assert scores == sorted(scores, reverse=True)
            assert sum(scores) == pytest.approx(1)
            assert {label.name for label in result.labels} == {"negative", "neutral", "positive"}
        by_ids = pb.ClassifyRequest(top_k=1)
        by_ids.token_ids.sequences.add(values=[2, 4])
        (same,) = (await stub.Classify(by_ids)).results
        assert same.labels[0].name == results[0].labels[0].name
        assert same.labels[0].score == pytest.approx(results[0].labels[0].score, abs=1e-6)
        by_ids.top_k = 4
        await refused(stub.Classify(by_ids), grpc.StatusCode.INVALID_ARGUMENT, "top_k", "3 classes")
        request.step_scores = True
        await refused(stub.Classify(request), grpc.StatusCode.INVALID_ARGUMENT, "step_scores", "no score a step")
        audio = pb.ClassifyRequest(model="bert-classify")
        audio.series.values.append(packed(FRAMES[0]))
        await refused(stub.Classify(audio), grpc.StatusCode.INVALID_ARGUMENT, "series")


async def test_ids_of_another_tokenizer_are_not_classified(tiny_store: Path) -> None:
    chosen = SequenceSettings(port=0, store=tiny_store, lame_duck_s=0, drain_s=1, metrics_port=0)
    async with running(chosen, build) as (channel, _):
        request = pb.ClassifyRequest()
        request.token_ids.sequences.add(values=[2], tokenizer_digest="sha256:other")
        call = SequenceServiceStub(channel).Classify(request)
        await refused(call, grpc.StatusCode.FAILED_PRECONDITION, said="tokenizer sha256:other")
