"""Published forecasters and classifiers through a real server: what is served is what training says."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
import torch
from grpc import aio

from cli.prepare import choose_runner
from maas.common.v1.tensor_pb2 import Series
from maas.model.v1 import model_service_pb2
from maas.model.v1.model_service_pb2_grpc import ModelServiceStub
from maas.oip.v1 import grpc_service_pb2 as oip
from maas.oip.v1.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from maas.sequence.v1 import sequence_service_pb2 as pb
from maas.sequence.v1.sequence_service_pb2_grpc import SequenceServiceStub
from services.runtime import tensors
from services.runtime.store.store import ModelStore
from services.sequence.__main__ import build
from services.sequence.models.bert import BertForSequenceClassification
from services.sequence.models.lstm import LstmClassifier
from services.sequence.models.rnn import RnnForecaster
from services.sequence.models.scaling import Scaling
from services.sequence.settings import SequenceSettings
from tests.harness import running
from tests.service.sequence.calls import refused
from tests.unit.runtime.text import made
from tests.unit.training import stored
from training.data.labelled import Sequences, SequenceSplit
from training.data.sunspots import SplitSeries
from training.data.texts import TextRow
from training.forecasting import ForecastTraining, roll_out
from training.plan import Plan
from training.publish import publish
from training.recipes.bert_classify import TextTraining, encoded, tokenizer_of
from training.recipes.lstm_classify import manifest_fields
from training.sequences import SequenceTraining, predict, series_batch

pytestmark = pytest.mark.asyncio(loop_scope="module")

WINDOW, CUT = 8, 7
TEXTS = ["a man", "the quick brown fox jumps over the lazy dog, again and again", "a man is eating bread", "dog"]
SPOTS = SplitSeries(np.random.default_rng(5).gamma(2, 30, (60, 1)), 40, 50, 11, "made")


@pytest.fixture(scope="module")
def forecaster() -> ForecastTraining:
    torch.manual_seed(2)
    config = {"features": 1, "hidden_size": 10}
    return ForecastTraining(RnnForecaster(config), SPOTS, WINDOW, 3, "rnn_forecaster", config)


@pytest.fixture(scope="module")
def motions() -> SequenceTraining:
    torch.manual_seed(3)
    draw = np.random.default_rng(3)
    rows = [draw.normal(5, 3, (length, 6)) for length in (4, 30, 30, 17, 1, 90)]
    part = Sequences(rows, np.array([0, 1, 2, 0, 1, 2]))
    split = SequenceSplit(part, part, part, ("still", "walking", "running"), "made")
    scaling = Scaling.of(np.concatenate(rows))
    config = {"features": 6, "hidden_sizes": [8, 5], "classes": 3, "embeds": True}
    fields = manifest_fields(config, scaling)
    return SequenceTraining(LstmClassifier(config), split, partial(series_batch, scaling), fields)


@pytest.fixture(scope="module")
def mails(tmp_path_factory: pytest.TempPathFactory) -> TextTraining:
    words = tmp_path_factory.mktemp("words") / "words.json"
    made.word_piece().save(str(words))
    part = encoded(tokenizer_of(words), [TextRow(text, "spam") for text in TEXTS], ("ham", "spam"), CUT)
    split = SequenceSplit(part, part, part, ("ham", "spam"), "made")
    torch.manual_seed(4)
    config = {"vocab_size": 400, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    net = BertForSequenceClassification({**config, "intermediate_size": 32, "max_position_embeddings": 16})
    return TextTraining(net, split, words, CUT)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def channel(
    tmp_path_factory: pytest.TempPathFactory,
    forecaster: ForecastTraining,
    motions: SequenceTraining,
    mails: TextTraining,
) -> AsyncIterator[aio.Channel]:
    root: Path = tmp_path_factory.mktemp("store")
    store = ModelStore(root)
    trained = {"rnn-forecast": forecaster, "lstm-classify": motions, "bert-classify": mails}
    for name, work in trained.items():
        # An exported recurrent net may answer for one length only: this one is published as `maas train` does.
        prepare = choose_runner if work is motions else lambda draft: None
        publish(store, name, work, work.net, work.evaluate(work.net), Plan(), prepare)
    stored.forecaster(root, name="older")
    stored.series_classifier(root, name="older-motions")
    settings = SequenceSettings(port=0, store=root, lame_duck_s=0, drain_s=1, metrics_port=0)
    async with running(settings, build) as (channel, _):
        yield channel


@pytest.fixture(scope="module")
def stub(channel: aio.Channel) -> Any:
    return SequenceServiceStub(channel)


def packed(values: Any, features: int = 0) -> Series:
    return Series(packed=np.asarray(values, "<f4").tobytes(), features=features)


async def test_forecasts_equal_training_s_own(stub: Any, forecaster: ForecastTraining) -> None:
    known = SPOTS.values[:50]
    scores = torch.from_numpy(forecaster.scaling.apply(known[-WINDOW:]))[None]
    wanted = forecaster.scaling.undo(roll_out(forecaster.net, scores, 200)[0])[:, 0]
    reply = await stub.Forecast(pb.ForecastRequest(series=packed(known), horizon_steps=200))
    np.testing.assert_allclose(reply.values, wanted, rtol=1e-5, atol=1e-4)
    assert (reply.served_by.model, reply.served_by.version) == ("rnn-forecast", "1")
    assert reply.timing.compute_ms > 0


@pytest.mark.parametrize(
    ("series", "field", "said"),
    [
        (packed([1.0] * (WINDOW - 1)), "series", "has 7 steps"),
        (packed([1.0] * 20, 2), "series.features", "is 2; this model reads 1"),
        (packed([*[1.0] * 10, np.nan]), "series.values[10]", "finite"),
        (Series(values=[1.0, float("inf")] * 8), "series.values[1]", "finite"),
    ],
)
async def test_series_that_cannot_be_forecast_are_named(stub: Any, series: Series, field: str, said: str) -> None:
    call = stub.Forecast(pb.ForecastRequest(series=series, horizon_steps=1))
    await refused(call, grpc.StatusCode.INVALID_ARGUMENT, field, said)


async def test_what_is_not_served_of_a_forecast_is_named(stub: Any) -> None:
    unasked = pb.ForecastRequest(series=packed([1.0] * 9))
    await refused(stub.Forecast(unasked), grpc.StatusCode.INVALID_ARGUMENT, "horizon_steps")
    elsewhere = pb.ForecastRequest(model="silero-vad", series=packed([1.0] * 9), horizon_steps=1)
    await refused(stub.Forecast(elsewhere), grpc.StatusCode.NOT_FOUND, said="rnn-forecast")


async def test_quantiles_are_those_of_the_errors_that_were_kept(stub: Any, forecaster: ForecastTraining) -> None:
    request = pb.ForecastRequest(series=packed(SPOTS.values[:50]), horizon_steps=30, quantiles=[0.9, 0.1, 0.5])
    reply = await stub.Forecast(request)
    plain = await stub.Forecast(pb.ForecastRequest(series=request.series, horizon_steps=30))
    assert reply.values == plain.values and not plain.quantiles
    assert [path.quantile for path in reply.quantiles] == pytest.approx([0.9, 0.1, 0.5])
    high, low, middle = (np.array(path.values) for path in reply.quantiles)
    assert (low <= middle).all() and (middle <= high).all()
    rows = forecaster._rows(40, 50)
    errors = forecaster.scaling.undo(rows.targets.numpy()) - forecaster.scaling.undo(
        roll_out(forecaster.net, rows.windows, 1)[:, 0]
    )
    wanted = plain.values[0] + np.quantile(np.repeat(errors, 40), [0.9, 0.1, 0.5])
    np.testing.assert_allclose([high[0], low[0], middle[0]], wanted, rtol=1e-4)
    assert np.median((high - low)[10:]) > (high - low)[0]
    assert (await stub.Forecast(request)).quantiles == reply.quantiles
    alone = pb.ForecastRequest(series=request.series, horizon_steps=4, quantiles=[0.1])
    np.testing.assert_allclose((await stub.Forecast(alone)).quantiles[0].values, low[:4], rtol=1e-5)


async def test_quantiles_that_cannot_be_said_are_refused(stub: Any) -> None:
    def asked(**fields: Any) -> Any:
        return stub.Forecast(pb.ForecastRequest(**{"series": packed([1.0] * 9), "horizon_steps": 1, **fields}))

    for quantile in (0.0, 1.0):
        await refused(
            asked(quantiles=[0.5, quantile]), grpc.StatusCode.INVALID_ARGUMENT, "quantiles[1]", "between"
        )
    await refused(asked(quantiles=[-0.1]), grpc.StatusCode.INVALID_ARGUMENT, "quantiles[0]")
    older = asked(model="older", quantiles=[0.5])
    await refused(older, grpc.StatusCode.FAILED_PRECONDITION, said="publish it again")
    assert (await asked(model="older")).values


async def test_a_reader_finds_of_which_steps_the_errors_are(channel: aio.Channel) -> None:
    request = model_service_pb2.GetModelRequest(model="rnn-forecast")
    told = (await ModelServiceStub(channel).GetModel(request)).model
    assert (told.preprocessing["residuals"], told.preprocessing["residuals_of"]) == (10, "40 to 49")


async def test_a_forecaster_as_tensors_says_the_next_step(channel: aio.Channel, stub: Any) -> None:
    inference = GRPCInferenceServiceStub(channel)
    metadata = await inference.ModelMetadata(oip.ModelMetadataRequest(name="rnn-forecast"))
    (given,), (made,) = metadata.inputs, metadata.outputs
    assert (given.name, given.datatype, list(given.shape)) == ("window", "FP32", [-1, WINDOW, 1])
    assert (made.name, list(made.shape)) == ("next", [-1, 1])
    windows = SPOTS.values[: 2 * WINDOW].astype("<f4").reshape(2, WINDOW, 1)
    request = oip.ModelInferRequest(model_name="rnn-forecast", raw_input_contents=[windows.tobytes()])
    request.inputs.add(name="window", datatype="FP32", shape=windows.shape)
    raw = (await inference.ModelInfer(request)).raw_output_contents[0]
    alone = [
        (await stub.Forecast(pb.ForecastRequest(series=packed(window), horizon_steps=1))).values[0]
        for window in windows
    ]
    np.testing.assert_allclose(np.frombuffer(raw, "<f4"), alone, rtol=1e-5)


# --- Classifiers ---------------------------------------------------------------------------------------------


def scores(reply: pb.ClassifyResponse, classes: int) -> np.ndarray:
    found = np.zeros((len(reply.results), classes))
    for row, result in zip(found, reply.results, strict=True):
        for label in result.labels:
            row[label.index] = label.score
    return found


def series_request(rows: list[np.ndarray]) -> pb.ClassifyRequest:
    request = pb.ClassifyRequest(model="lstm-classify")
    request.series.values.extend(packed(row, row.shape[1]) for row in rows)
    return request


async def test_series_of_any_length_are_classified_as_training_does(stub: Any, motions: SequenceTraining) -> None:
    rows = list(motions.split.test.rows)
    wanted = predict(motions.net, rows, motions.collate)
    reply = await stub.Classify(series_request(rows))
    np.testing.assert_allclose(scores(reply, 3), wanted, atol=1e-5)
    best = reply.results[0].labels[0]
    assert best.name == motions.labels()[int(wanted[0].argmax())]
    assert reply.served_by.model == "lstm-classify"


@pytest.mark.parametrize(
    ("row", "field"),
    [
        (np.zeros((5, 4)), "series.values[1].features"),
        (np.array([[0, 1, 2, np.nan, 4, 5]]), "series.values[1].values[3]"),
        (np.zeros((10_001, 6)), "series.values[1]"),
    ],
)
async def test_series_that_cannot_be_classified_are_named(stub: Any, row: np.ndarray, field: str) -> None:
    call = stub.Classify(series_request([np.zeros((3, 6)), row]))
    await refused(call, grpc.StatusCode.INVALID_ARGUMENT, field)


async def test_a_classifier_of_series_as_tensors(channel: aio.Channel, motions: SequenceTraining) -> None:
    rows = np.stack(motions.split.test.rows[1:3]).astype("<f4")
    request = oip.ModelInferRequest(model_name="lstm-classify", raw_input_contents=[rows.tobytes()])
    request.inputs.add(name="series", datatype="FP32", shape=rows.shape)
    reply = await GRPCInferenceServiceStub(channel).ModelInfer(request)
    wanted = predict(motions.net, list(rows), motions.collate)
    assert (reply.outputs[0].name, list(reply.outputs[0].shape)) == ("probabilities", [2, 3])
    found = np.frombuffer(reply.raw_output_contents[0], "<f4").reshape(2, 3)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


async def test_series_of_any_length_are_embedded_by_the_state_that_is_judged(
    stub: Any, motions: SequenceTraining
) -> None:
    rows = list(motions.split.test.rows)
    request = pb.EmbedRequest(model="lstm-classify", normalize=False)
    request.series.values.extend(packed(row, row.shape[1]) for row in rows)
    reply = await stub.Embed(request)
    found = tensors.to_numpy(reply.embeddings, "")
    for row, vector in zip(rows, found, strict=True):
        with torch.inference_mode():
            _, alone = motions.net(*motions.collate([row]))
        np.testing.assert_allclose(vector, alone[0].numpy(), atol=1e-5)
    assert list(reply.token_counts) == [len(row) for row in rows]
    request.ClearField("normalize")
    unit = tensors.to_numpy((await stub.Embed(request)).embeddings, "")
    np.testing.assert_allclose(unit, found / np.linalg.norm(found, axis=1, keepdims=True), rtol=1e-5)
    request.series.values[2].CopyFrom(packed([1.0] * 4, 2))
    await refused(stub.Embed(request), grpc.StatusCode.INVALID_ARGUMENT, "series.values[2].features")
    texts = pb.EmbedRequest(model="lstm-classify", texts={"values": ["hello"]})
    await refused(stub.Embed(texts), grpc.StatusCode.INVALID_ARGUMENT, "texts", "set series instead")
    older = pb.EmbedRequest(model="older-motions", series=request.series)
    await refused(stub.Embed(older), grpc.StatusCode.INVALID_ARGUMENT, "model", "sequence.embed")


async def test_texts_are_cut_and_classified_as_training_does(stub: Any, mails: TextTraining) -> None:
    assert max(len(row) for row in mails.split.test.rows) == CUT
    wanted = predict(mails.net, mails.split.test.rows, mails.collate)
    reply = await stub.Classify(pb.ClassifyRequest(texts={"values": TEXTS}))
    np.testing.assert_allclose(scores(reply, 2), wanted, atol=1e-5)
    assert {label.name for label in reply.results[0].labels} == {"ham", "spam"}
    assert reply.served_by.model == "bert-classify"


async def test_each_kind_of_classifier_says_what_it_reads(stub: Any) -> None:
    series = series_request([np.zeros((3, 6))])
    series.model = "bert-classify"
    await refused(stub.Classify(series), grpc.StatusCode.INVALID_ARGUMENT, "series")
    text = pb.ClassifyRequest(model="lstm-classify", texts={"values": ["hello"]})
    await refused(stub.Classify(text), grpc.StatusCode.INVALID_ARGUMENT, "texts")
