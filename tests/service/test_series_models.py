"""Published forecasters and series classifiers through a real server: what is served is what training says."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
import torch
from grpc import aio

from maas.common.v1.tensor_pb2 import Series
from maas.oip.v1 import grpc_service_pb2 as oip
from maas.oip.v1.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from maas.sequence.v1 import sequence_service_pb2 as pb
from maas.sequence.v1.sequence_service_pb2_grpc import SequenceServiceStub
from services.runtime.store.store import ModelStore
from services.sequence.__main__ import build
from services.sequence.models.rnn import RnnForecaster
from services.sequence.settings import SequenceSettings
from tests.harness import running
from tests.service.test_sequence import refused
from training.data.sunspots import SplitSeries
from training.forecasting import ForecastTraining, roll_out
from training.plan import Plan
from training.publish import publish

pytestmark = pytest.mark.asyncio(loop_scope="module")

WINDOW = 8
SPOTS = SplitSeries(np.random.default_rng(5).gamma(2, 30, (60, 1)), 40, 50, 11, "made")


@pytest.fixture(scope="module")
def forecaster() -> ForecastTraining:
    torch.manual_seed(2)
    config = {"features": 1, "hidden_size": 10}
    return ForecastTraining(RnnForecaster(config), SPOTS, WINDOW, 3, "rnn_forecaster", config)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def channel(
    tmp_path_factory: pytest.TempPathFactory, forecaster: ForecastTraining
) -> AsyncIterator[aio.Channel]:
    root: Path = tmp_path_factory.mktemp("store")
    store = ModelStore(root)
    net = forecaster.net
    publish(store, "rnn-forecast", forecaster, net, forecaster.evaluate(net), Plan(), lambda draft: None)
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
    quantiles = pb.ForecastRequest(series=packed([1.0] * 9), horizon_steps=1, quantiles=[0.1])
    await refused(stub.Forecast(quantiles), grpc.StatusCode.UNIMPLEMENTED, said="quantiles")
    unasked = pb.ForecastRequest(series=packed([1.0] * 9))
    await refused(stub.Forecast(unasked), grpc.StatusCode.INVALID_ARGUMENT, "horizon_steps")
    elsewhere = pb.ForecastRequest(model="silero-vad", series=packed([1.0] * 9), horizon_steps=1)
    await refused(stub.Forecast(elsewhere), grpc.StatusCode.NOT_FOUND, said="rnn-forecast")


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
