"""Small nets, a stacked LSTM and an MLP: one row a call, rows batched by the client, a stream of rows."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from cli.program import Program
from tests.bench.load import interleave
from tests.bench.options import Options
from tests.bench.peers.serving.spec import Model
from tests.bench.servers import suite
from tests.bench.serving import models, oip, our_rows
from tests.bench.serving.ceilings import ceilings
from tests.bench.serving.models import LSTM, MLP
from tests.bench.serving.report import OURS, Result
from tests.bench.serving.stand import Bench, Stand, stand
from tests.bench.serving.ways import Timed, Way, always, points

ONE, BATCHED, STREAMED = "one row a call", "32 rows a call", "one row a message"
SIZES = {ONE: (1, 32), BATCHED: (1, 4), STREAMED: (32,)}
BATCH = 32
# Those that are also given batches and streams; the others only ever see a row a call.
FULL = ("triton tuned", "grpc.aio")
UNSTREAMED = ("grpc.aio",)
DEFAULTS = {
    "MAAS_IMAGE_CLASSIFY_MODEL": MLP,
    "MAAS_IMAGE_EMBED_MODEL": MLP,
    "MAAS_SERIES_CLASSIFY_MODEL": LSTM,
}


async def run(bench: Bench) -> list[Result]:
    """Three results a net, by how its rows come."""
    options = bench.options
    await models.prepare_small(options)
    return [*await _measured(bench, models.lstm(options)), *await _measured(bench, models.mlp(options))]


async def _measured(bench: Bench, model: Model) -> list[Result]:
    options = bench.options
    rows = some(model, BATCH)
    async with stand(bench, [program(model.name, options)], [model]) as up, ceilings(model, bench) as alone:
        timed: dict[tuple[str, str], Timed] = {}
        for form, sizes in SIZES.items():
            asked = ways(up, model, rows, form, models.small(options))
            if await asked[OURS].works():
                timed |= points(form, sizes, asked, options.seconds)
        for name, one in alone.items():
            timed |= {(f"{ONE}, {size}", name): partial(one, size) for size in SIZES[ONE]}
        found = await interleave(timed, options.repeat, options.tell)
    results = [Result(f"{model.name}: {form}", "rows/s", found, form) for form in SIZES]
    return [one for one in results if one.points]


def program(name: str, options: Options) -> Program:
    """Our service that answers with this model by default."""
    service = "sequence" if name == LSTM else "vision"
    return suite(models.small(options), extra={**options.environment, **DEFAULTS})[service]


def some(model: Model, count: int) -> oip.Array:
    """Standard scores, float32 [count, …], the same every time."""
    shape = (count, *model.inputs[0].shape)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def ways(up: Stand, model: Model, rows: oip.Array, form: str, store: Path) -> Mapping[str, Way]:
    """Ours, and the others on the same rows."""
    given = rows if form == BATCHED else rows[:1]
    right = models.answers(model, given).tolist()
    server = up.servers["sequence" if model.name == LSTM else "vision"]
    found = {OURS: our_rows.way(server, model, given, right, store, streamed=form == STREAMED)}
    for name, peer, served in up.ways(model):
        if form == ONE or (name in FULL and not (form == STREAMED and name in UNSTREAMED)):
            body = always(oip.request(served, models.filled(model, given)))
            path, read = (oip.STREAM, streamed_classes) if form == STREAMED else (oip.INFER, classes)
            streamed = form == STREAMED
            found[name] = Way((peer,), path, body, read, right, units=len(given), streamed=streamed, held=True)
    return found


def classes(reply: bytes) -> list[int]:
    """The best class of each row."""
    return np.argmax(oip.output(reply), axis=1).tolist()


def streamed_classes(reply: bytes) -> list[int]:
    return np.argmax(oip.streamed_output(reply), axis=1).tolist()
