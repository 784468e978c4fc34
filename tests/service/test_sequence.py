"""The sequence service through a real server and stub, on its real models."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
import torch
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from maas.common.v1 import tensor_pb2
from maas.oip.v1 import grpc_service_pb2 as oip
from maas.oip.v1.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from maas.sequence.v1 import sequence_pb2
from maas.sequence.v1 import sequence_service_pb2 as pb
from maas.sequence.v1.sequence_service_pb2_grpc import SequenceServiceStub
from services.runtime import tensors
from services.runtime.oip_tensors import join_bytes
from services.runtime.store.store import ModelStore
from services.sequence.__main__ import build
from services.sequence.models import encode
from services.sequence.settings import SequenceSettings
from tests.harness import running
from tests.models.signals import mixed

pytestmark = [pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]

FRAMES = mixed().reshape(-1, 512)


@pytest.fixture(scope="module")
def settings(model_store: ModelStore) -> SequenceSettings:
    return SequenceSettings(port=0, store=model_store.root, lame_duck_s=0, drain_s=1, metrics_port=0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def channel(settings: SequenceSettings) -> AsyncIterator[aio.Channel]:
    async with running(settings, build) as (channel, _):
        yield channel


@pytest.fixture(scope="module")
def stub(channel: aio.Channel) -> Any:
    return SequenceServiceStub(channel)


def packed(values: np.ndarray) -> tensor_pb2.Series:
    return tensor_pb2.Series(packed=values.astype("<f4").tobytes(), sample_rate_hz=16000)


def step(number: int, frame: np.ndarray) -> sequence_pb2.SessionStep:
    return sequence_pb2.SessionStep(step=number, series=packed(frame))


def violation(error: aio.AioRpcError) -> error_details_pb2.BadRequest.FieldViolation:
    status = dict(error.trailing_metadata())["grpc-status-details-bin"]
    for detail in status_pb2.Status.FromString(status).details:
        found = error_details_pb2.BadRequest()
        if detail.Unpack(found):
            return found.field_violations[0]
    raise AssertionError("no field violation in the status")


async def refused(call: Any, code: grpc.StatusCode, field: str | None = None, said: str = "") -> None:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is code, caught.value.details()
    assert said in caught.value.details()
    if field is not None:
        assert violation(caught.value).field == field


# --- Classify ------------------------------------------------------------------------------------------------


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


# --- Embed ---------------------------------------------------------------------------------------------------


def texts(*values: str, **fields: Any) -> pb.EmbedRequest:
    return pb.EmbedRequest(texts=tensor_pb2.Texts(values=values), **fields)


async def test_embed_golden_values_and_meaning(stub: Any) -> None:
    sentences = ("A man is eating food.", "A man is eating a piece of bread.", "The girl is carrying a baby.")
    reply = await stub.Embed(texts(*sentences))
    vectors = tensors.to_numpy(reply.embeddings, "embeddings")
    assert vectors.shape == (3, 384)
    np.testing.assert_allclose(vectors[0, :5], [0.0332, 0.0044, -0.0063, 0.0484, -0.1387], atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    similar = vectors @ vectors.T
    assert similar[0, 1] == pytest.approx(0.755, abs=0.002)
    assert abs(similar[0, 2]) < 0.15
    assert reply.token_counts[0] == 8


async def test_embedding_ids_equals_embedding_their_text(stub: Any) -> None:
    ids = [101, 1037, 2158, 2003, 5983, 2833, 1012, 102]
    request = pb.EmbedRequest(readable=True)
    request.token_ids.sequences.add(values=ids)
    request.token_ids.sequences.add(packed=np.array(ids, "<u4").tobytes())
    by_ids = await stub.Embed(request)
    assert len(by_ids.embeddings.float_values) == 2 * 384
    by_text = tensors.to_numpy((await stub.Embed(texts("A man is eating food."))).embeddings, "")
    for row in tensors.to_numpy(by_ids.embeddings, ""):
        np.testing.assert_allclose(row, by_text[0], atol=1e-6)


async def test_embedding_together_equals_alone(stub: Any) -> None:
    sentences = ["short", "a rather longer sentence about nothing in particular " * 6, "x y z"]
    together = tensors.to_numpy((await stub.Embed(texts(*sentences))).embeddings, "")
    replies = await asyncio.gather(*(stub.Embed(texts(sentence)) for sentence in sentences))
    for row, reply in zip(together, replies, strict=True):
        np.testing.assert_allclose(row, tensors.to_numpy(reply.embeddings, "")[0], atol=1e-5)


async def test_embed_without_normalisation(stub: Any) -> None:
    raw = tensors.to_numpy((await stub.Embed(texts("food", normalize=False))).embeddings, "")[0]
    unit = tensors.to_numpy((await stub.Embed(texts("food"))).embeddings, "")[0]
    assert np.linalg.norm(raw) > 1.5
    np.testing.assert_allclose(raw / np.linalg.norm(raw), unit, atol=1e-6)


async def test_long_texts_are_refused_or_cut(stub: Any) -> None:
    long = "word " * 600
    call = stub.Embed(texts("fine", long))
    await refused(call, grpc.StatusCode.INVALID_ARGUMENT, "texts.values[1]", "602 tokens; this model reads 512")
    reply = await stub.Embed(texts(long, truncate=True))
    assert list(reply.token_counts) == [512]


async def test_bad_ids_and_foreign_tokenizers(stub: Any) -> None:
    request = pb.EmbedRequest()
    request.token_ids.sequences.add(values=[101, 10**9])
    field = "token_ids.sequences[0].values[1]"
    await refused(stub.Embed(request), grpc.StatusCode.INVALID_ARGUMENT, field)
    request.token_ids.sequences[0].CopyFrom(tensor_pb2.TokenIds(values=[101], tokenizer_digest="sha256:other"))
    await refused(stub.Embed(request), grpc.StatusCode.FAILED_PRECONDITION)
    request.token_ids.sequences[0].CopyFrom(tensor_pb2.TokenIds())
    await refused(stub.Embed(request), grpc.StatusCode.INVALID_ARGUMENT, "token_ids.sequences[0]")


async def test_embed_refuses_nothing_series_and_other_models(stub: Any) -> None:
    await refused(stub.Embed(pb.EmbedRequest()), grpc.StatusCode.INVALID_ARGUMENT, "input")
    empty = pb.EmbedRequest(texts=tensor_pb2.Texts())
    await refused(stub.Embed(empty), grpc.StatusCode.INVALID_ARGUMENT, "texts.values")
    series = pb.EmbedRequest(series=tensor_pb2.SeriesBatch(values=[packed(FRAMES[0])]))
    await refused(stub.Embed(series), grpc.StatusCode.INVALID_ARGUMENT, "series")
    other = texts("x", model="silero-vad")
    await refused(stub.Embed(other), grpc.StatusCode.INVALID_ARGUMENT, "model", "sequence.embed")
    await refused(stub.Embed(texts("x", model="nope")), grpc.StatusCode.NOT_FOUND, said="minilm-l6-v2")
    await refused(stub.Embed(texts("x", version="77")), grpc.StatusCode.NOT_FOUND)


# --- Transduce -----------------------------------------------------------------------------------------------


async def test_transduce_golden_words(stub: Any) -> None:
    reply = await stub.Transduce(
        pb.TransduceRequest(texts=["computer", "Phoneme", "tokenization", "phoneme computer"])
    )
    assert [result.text for result in reply.results] == [
        "K AH0 M P Y UW1 T ER0",
        "F OW1 N IY0 M",
        "T AA2 K AH0 N AH0 Z EY1 SH AH0 N",
        "F OW1 N IY0 M K AH0 M P Y UW1 T ER0",
    ]
    assert list(reply.results[1].symbols) == ["F", "OW1", "N", "IY0", "M"]
    assert not any(result.truncated for result in reply.results)
    assert reply.served_by.model == "g2p-en"


async def test_words_are_read_and_written_off_the_event_loop(
    stub: Any, inference: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def seen(function: Any) -> Any:
        def wrapped(*args: Any) -> Any:
            threads.append(threading.current_thread())
            return function(*args)

        return wrapped

    monkeypatch.setattr(encode, "text_to_words", seen(encode.text_to_words))
    monkeypatch.setattr(encode, "symbols", seen(encode.symbols))
    reply = await stub.Transduce(pb.TransduceRequest(texts=["computer"]))
    assert reply.timing.total_ms >= reply.timing.compute_ms > 0
    await inference.ModelInfer(asked("g2p-en", "text", "BYTES", [1], join_bytes([b"computer"])))
    assert len(threads) == 4 and threading.current_thread() not in threads


async def test_a_call_of_too_many_words_is_refused(stub: Any) -> None:
    call = stub.Transduce(pb.TransduceRequest(texts=["a " * 2048] * 5))
    await refused(call, grpc.StatusCode.INVALID_ARGUMENT, "texts[4]", "at most 8192 words")


@pytest.mark.parametrize("word", ["r2d2", "日本", "   ", "a" * 33])
async def test_what_is_no_word_is_named(stub: Any, word: str) -> None:
    call = stub.Transduce(pb.TransduceRequest(texts=["fine", word]))
    await refused(call, grpc.StatusCode.INVALID_ARGUMENT, "texts[1]")


# --- Sessions ------------------------------------------------------------------------------------------------


class Talk:
    """A RunSession stream spoken line by line."""

    def __init__(self, stub: Any) -> None:
        self.call = stub.RunSession()

    async def say(self, **message: Any) -> pb.RunSessionResponse:
        await self.call.write(pb.RunSessionRequest(**message))
        return await self.call.read()

    async def open(self, **fields: Any) -> sequence_pb2.SessionStatus:
        return (await self.say(open=sequence_pb2.OpenSession(**fields))).opened

    async def hear(self, frames: Iterable[np.ndarray], first: int = 1) -> list[float]:
        heard = []
        for number, frame in enumerate(frames, first):
            output = (await self.say(step=step(number, frame))).output
            assert output.step == number
            heard.append(output.scores[0])
        return heard


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def uninterrupted(stub: Any) -> list[float]:
    request = pb.ClassifyRequest(step_scores=True)
    request.series.values.append(packed(FRAMES.ravel()))
    return list((await stub.Classify(request)).results[0].step_scores)


async def test_a_session_hears_what_a_whole_recording_holds(stub: Any, uninterrupted: list[float]) -> None:
    talk = Talk(stub)
    opened = await talk.open(session_id="mine")
    assert (opened.session_id, opened.last_step, opened.idle_timeout_ms) == ("mine", 0, 600_000)
    heard = await talk.hear(FRAMES)
    np.testing.assert_allclose(heard, uninterrupted, atol=1e-4)
    ended = (await talk.say(close=True)).ended
    assert (ended.reason, ended.status.last_step) == (sequence_pb2.SESSION_END_CLOSED, 80)
    assert await talk.call.read() is aio.EOF
    await refused(Talk(stub).open(session_id="mine", resume=True), grpc.StatusCode.NOT_FOUND)


async def test_interleaved_sessions_do_not_hear_each_other(stub: Any, uninterrupted: list[float]) -> None:
    forth, back, mute = Talk(stub), Talk(stub), Talk(stub)
    ids = [(await talk.open()).session_id for talk in (forth, back, mute)]
    assert len(set(ids)) == 3
    heard, _, silence = await asyncio.gather(
        forth.hear(FRAMES), back.hear(FRAMES[::-1]), mute.hear(np.zeros_like(FRAMES))
    )
    np.testing.assert_allclose(heard, uninterrupted, atol=1e-4)
    assert max(silence) < 0.1


async def test_a_dropped_stream_is_resumed_where_it_stood(stub: Any, uninterrupted: list[float]) -> None:
    first = Talk(stub)
    await first.open(session_id="kept")
    heard = await first.hear(FRAMES[:40])
    first.call.cancel()
    second = Talk(stub)
    opened = await second.open(session_id="kept", resume=True)
    assert opened.last_step == 40
    heard += await second.hear(FRAMES[40:], first=41)
    np.testing.assert_allclose(heard, uninterrupted, atol=1e-4)


async def test_opening_an_id_anew_starts_from_nothing(stub: Any, uninterrupted: list[float]) -> None:
    first, second = Talk(stub), Talk(stub)
    old = await first.open(session_id="again")
    await first.hear(FRAMES[20:40])
    new = await second.open(session_id="again")
    assert new.generation > old.generation
    assert (await first.call.read()).ended.reason == sequence_pb2.SESSION_END_CLOSED
    np.testing.assert_allclose(await second.hear(FRAMES[:20]), uninterrupted[:20], atol=1e-4)


async def test_a_wrong_step_names_the_one_that_is_due_and_harms_nothing(stub: Any) -> None:
    talk = Talk(stub)
    await talk.open(session_id="order")
    await talk.hear(FRAMES[:2])
    field = "step.step"
    await refused(talk.say(step=step(2, FRAMES[2])), grpc.StatusCode.INVALID_ARGUMENT, field, "next step is 3")
    again = Talk(stub)
    await again.open(session_id="order", resume=True)
    short = again.say(step=step(3, FRAMES[2][:100]))
    await refused(short, grpc.StatusCode.INVALID_ARGUMENT, "step.series", "one step of this model is 512")
    once_more = Talk(stub)
    await once_more.open(session_id="order", resume=True)
    await once_more.hear(FRAMES[2:4], first=3)


async def test_the_first_message_must_open(stub: Any) -> None:
    await refused(Talk(stub).say(step=step(1, FRAMES[0])), grpc.StatusCode.INVALID_ARGUMENT, "open")
    wrong_rate = Talk(stub).open(sample_rate_hz=44100)
    await refused(wrong_rate, grpc.StatusCode.INVALID_ARGUMENT, "open.sample_rate_hz", "16000")


async def test_resume_refuses_another_rate_or_version(stub: Any) -> None:
    await Talk(stub).open(session_id="pinned", version="1", sample_rate_hz=16000)
    again = Talk(stub).open(session_id="pinned", resume=True, sample_rate_hz=8000)
    await refused(again, grpc.StatusCode.INVALID_ARGUMENT, "open.sample_rate_hz", "16000")
    other = Talk(stub).open(session_id="pinned", resume=True, version="99")
    await refused(other, grpc.StatusCode.INVALID_ARGUMENT, "open.version", "runs on 1")
    assert (await Talk(stub).open(session_id="pinned", resume=True, version="1")).session_id == "pinned"


async def test_unary_steps_equal_the_stream(stub: Any, uninterrupted: list[float]) -> None:
    reply = await stub.StepSession(pb.StepSessionRequest(open=sequence_pb2.OpenSession(), step=step(1, FRAMES[0])))
    session_id, heard = reply.status.session_id, [reply.output.scores[0]]
    for number, frame in enumerate(FRAMES[1:20], 2):
        reply = await stub.StepSession(pb.StepSessionRequest(session_id=session_id, step=step(number, frame)))
        heard.append(reply.output.scores[0])
    np.testing.assert_allclose(heard, uninterrupted[:20], atol=1e-4)
    assert reply.status.last_step == 20
    assert reply.served_by.model == "silero-vad"
    await stub.StepSession(pb.StepSessionRequest(session_id=session_id, close=True))
    gone = stub.StepSession(pb.StepSessionRequest(session_id=session_id, step=step(21, FRAMES[20])))
    await refused(gone, grpc.StatusCode.NOT_FOUND)


async def test_unary_call_without_anything_to_do(stub: Any) -> None:
    await refused(stub.StepSession(pb.StepSessionRequest()), grpc.StatusCode.INVALID_ARGUMENT, "step")
    no_id = stub.StepSession(pb.StepSessionRequest(step=step(1, FRAMES[0])))
    await refused(no_id, grpc.StatusCode.INVALID_ARGUMENT, "session_id")


async def test_a_session_whose_opening_call_failed_is_not_kept(stub: Any) -> None:
    opening = sequence_pb2.OpenSession(session_id="stillborn")
    failed = stub.StepSession(pb.StepSessionRequest(open=opening, step=step(7, FRAMES[0])))
    await refused(failed, grpc.StatusCode.INVALID_ARGUMENT, "step.step", "next step is 1")
    await refused(Talk(stub).open(session_id="stillborn", resume=True), grpc.StatusCode.NOT_FOUND)
    two_ids = stub.StepSession(pb.StepSessionRequest(open=opening, session_id="other"))
    await refused(two_ids, grpc.StatusCode.INVALID_ARGUMENT, "session_id")


async def test_an_idle_session_is_told_so(settings: SequenceSettings) -> None:
    impatient = settings.model_copy(update={"session_idle_s": 0.2})
    async with running(impatient, build) as (channel, _):
        talk = Talk(SequenceServiceStub(channel))
        await talk.open(session_id="sleepy")
        ended = (await talk.call.read()).ended
        assert ended.reason == sequence_pb2.SESSION_END_IDLE
        assert await talk.call.read() is aio.EOF
        unknown = Talk(SequenceServiceStub(channel)).open(session_id="sleepy", resume=True)
        await refused(unknown, grpc.StatusCode.NOT_FOUND)


async def test_open_streams_are_told_of_a_drain(settings: SequenceSettings) -> None:
    async with running(settings, build) as (channel, floor):
        talk = Talk(SequenceServiceStub(channel))
        await talk.open()
        floor.readiness.drain()
        assert (await talk.call.read()).ended.reason == sequence_pb2.SESSION_END_DRAINING
        assert await talk.call.read() is aio.EOF


async def test_a_full_house_refuses_politely(settings: SequenceSettings) -> None:
    small = settings.model_copy(update={"session_limit": 1})
    async with running(small, build) as (channel, _):
        stub = SequenceServiceStub(channel)
        await Talk(stub).open(session_id="first")
        await refused(Talk(stub).open(), grpc.StatusCode.RESOURCE_EXHAUSTED, said="1 sessions")


# --- Text classification, on a tiny model published here -----------------------------------------------------


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


# --- Open Inference Protocol ---------------------------------------------------------------------------------


def asked(model: str, name: str, datatype: str, shape: list[int], raw: bytes) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name=model, raw_input_contents=[raw])
    request.inputs.add(name=name, datatype=datatype, shape=shape)
    return request


@pytest.fixture(scope="module")
def inference(channel: aio.Channel) -> Any:
    return GRPCInferenceServiceStub(channel)


async def test_frames_as_tensors_start_from_silence(inference: Any, stub: Any) -> None:
    metadata = await inference.ModelMetadata(oip.ModelMetadataRequest(name="silero-vad"))
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [("audio", "FP32", [-1, 512])]
    raw = FRAMES[20:23].astype("<f4").tobytes()
    reply = await inference.ModelInfer(asked("silero-vad", "audio", "FP32", [3, 512], raw))
    found = np.frombuffer(reply.raw_output_contents[0], "<f4")
    for frame, probability in zip(FRAMES[20:23], found, strict=True):
        request = pb.ClassifyRequest(step_scores=True)
        request.series.values.append(packed(frame))
        assert (await stub.Classify(request)).results[0].step_scores[0] == pytest.approx(probability, abs=1e-5)


async def test_a_frame_that_holds_no_number_is_named(inference: Any) -> None:
    raw = np.full((1, 512), np.nan, "<f4").tobytes()
    call = inference.ModelInfer(asked("silero-vad", "audio", "FP32", [1, 512], raw))
    await refused(call, grpc.StatusCode.INVALID_ARGUMENT, "audio[0][0]")


async def test_texts_as_tensors_equal_embed_and_transduce(inference: Any, stub: Any) -> None:
    raw = join_bytes([b"A man is eating food.", b"computer"])
    reply = await inference.ModelInfer(asked("minilm-l6-v2", "text", "BYTES", [2], raw))
    found = np.frombuffer(reply.raw_output_contents[0], "<f4").reshape(2, 384)
    wanted = (await stub.Embed(texts("A man is eating food.", "computer"))).embeddings
    np.testing.assert_allclose(found, tensors.to_numpy(wanted, ""), atol=1e-5)
    spoken = await inference.ModelInfer(asked("g2p-en", "text", "BYTES", [1], join_bytes([b"computer"])))
    assert spoken.raw_output_contents[0] == join_bytes([b"K AH0 M P Y UW1 T ER0"])
    broken = inference.ModelInfer(asked("g2p-en", "text", "BYTES", [1], join_bytes([bytes([0xFF])])))
    await refused(broken, grpc.StatusCode.INVALID_ARGUMENT, "text[0]")
