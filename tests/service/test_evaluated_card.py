"""What `maas evaluate --save` finds is told by a service that was running meanwhile."""

import json
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from cli.__main__ import app
from maas.model.v1 import model_service_pb2, model_service_pb2_grpc
from maas.sequence.v1 import sequence_service_pb2 as pb
from maas.sequence.v1.sequence_service_pb2_grpc import SequenceServiceStub
from services.sequence.__main__ import build
from services.sequence.settings import SequenceSettings
from tests.harness import running
from tests.unit.training import stored


def evaluate(root: Path, data: Path) -> dict:
    asked = ["evaluate", "small", "--data", str(data), "--store", str(root), "--threads", "1", "--save", "--json"]
    told = CliRunner().invoke(app, asked)
    assert told.exit_code == 0, told.output
    return json.loads(told.stdout)


async def test_get_model_tells_the_evaluation_of_a_moment_ago_and_the_same_digest(tmp_path: Path) -> None:
    model = stored.forecaster(tmp_path / "store")
    values = np.random.default_rng(1).normal(10, 4, 40)
    data = tmp_path / "own.csv"
    data.write_text("t,v\n" + "".join(f"{t},{value!r}\n" for t, value in enumerate(values.tolist())))
    settings = SequenceSettings(
        port=0, metrics_port=0, store=model.store.root, lame_duck_s=0, drain_s=1, forecast_model="small"
    )
    async with running(settings, build) as (channel, _):
        models, forecasts = model_service_pb2_grpc.ModelServiceStub(channel), SequenceServiceStub(channel)
        asked = model_service_pb2.GetModelRequest(model="small")
        before = (await models.GetModel(asked)).model
        assert "evaluations" not in before.card
        found = evaluate(model.store.root, data)
        after = (await models.GetModel(asked)).model
        reply = await forecasts.Forecast(pb.ForecastRequest(series={"values": values}, horizon_steps=1))
    told = after.card["evaluations"]["own.csv"]
    assert told["metrics"]["mse"] == found["metrics"]["mse"] > 0
    assert told["slices"]["period"].keys() == found["slices"]["period"].keys()
    assert after.digest == before.digest == reply.served_by.digest
    assert (after.version, reply.served_by.version) == ("1", "1")
