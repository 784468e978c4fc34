"""What micro-batching adds to a request that is alone: our services against themselves without their batcher, and
against a bare server on the same runner.
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from grpc import aio

from cli.ports import any_free
from cli.program import Program
from services.runtime.channels import open_channel
from services.sequence.settings import SequenceSettings
from services.vision.settings import VisionSettings
from tests.bench.load import interleave
from tests.bench.servers import HOST, suite
from tests.bench.serving import models, oip, our_rows, pictures, rows, straight, unbatched
from tests.bench.serving.report import OURS, Result
from tests.bench.serving.stand import Bench, Stand, stand
from tests.bench.serving.ways import Way, always, points

FLOOR, STRAIGHT = "bare server", "ours without batcher"
PICTURE, SERIES = "picture as a tensor", "series"


async def run(bench: Bench) -> list[Result]:
    """One result: one call at a time of each kind."""
    options = bench.options
    await models.prepare_small(options)
    small = models.small(options)
    vision, sequence = (
        suite(options.store, extra=options.environment)["vision"],
        rows.program(models.LSTM, options),
    )
    threads = [options.threads or one.threads for one in (VisionSettings(), SequenceSettings())]
    floors = [
        floor(PICTURE, threads[0], options.store, models.PICTURE, vision),
        floor(SERIES, threads[1], small, models.LSTM, sequence),
    ]
    straights = [_straight(suite(options.store, extra=options.environment)["vision"])]
    straights.append(_straight(rows.program(models.LSTM, options)))
    async with stand(bench, [vision, sequence, *straights, *floors], [], []) as up:
        timed = points(PICTURE, [1], _pictures(up, bench), options.seconds)
        timed |= points(SERIES, [1], _series(up, bench), options.seconds)
        found = await interleave(timed, options.repeat, options.tell)
    return [Result("one call at a time", "calls/s", found)]


def _straight(like: Program) -> Program:
    """`like` with its batcher taken out, on its own port."""
    python, _, module, *flags = like.command
    command = (python, "-m", straight.__name__, module.removeprefix("services."), *flags)
    return replace(like, name=f"{STRAIGHT}: {like.name}", command=command)


def floor(name: str, threads: int, store: Path, model: str, like: Program) -> Program:
    """The server without batcher, in the environment of the one it is compared with."""
    port = any_free(HOST)
    command = (sys.executable, "-m", unbatched.__name__, str(port), str(threads), str(store), model)
    address = f"{HOST}:{port}"
    return Program(f"{FLOOR}: {name}", command, address, partial(_listens, address), like.environment)


async def _listens(address: str) -> bool:
    """It loads its model before it listens."""
    async with open_channel(address, retry=False) as channel:
        try:
            await channel.unary_unary(oip.INFER)(b"", timeout=1)
        except aio.AioRpcError as error:
            return error.code().name != "UNAVAILABLE"
    return True


def _pictures(up: Stand, bench: Bench) -> dict[str, Way]:
    model = models.picture(bench.options.store)
    assert model
    client = pictures.Client(bench.options.store)
    tensor = client.tensor(pictures.JPEG.read_bytes())
    body = always(oip.request(models.PICTURE, {model.inputs[0].name: tensor}))
    server = up.servers[f"{FLOOR}: {PICTURE}"]
    return {
        OURS: pictures.ours_tensor(up.servers["vision"], tensor),
        STRAIGHT: pictures.ours_tensor(up.servers[f"{STRAIGHT}: vision"], tensor),
        FLOOR: Way((server,), oip.INFER, body, client.best, pictures.CLASS),
    }


def _series(up: Stand, bench: Bench) -> dict[str, Way]:
    small, model = models.small(bench.options), models.lstm(bench.options)
    given = rows.some(model, 1)
    right = models.answers(model, given).tolist()
    lengths = np.array([given.shape[1]], np.int64)
    body = always(oip.request(models.LSTM, {"series": given, "lengths": lengths}))
    server = up.servers[f"{FLOOR}: {SERIES}"]
    ours, without = (up.servers[name] for name in ("sequence", f"{STRAIGHT}: sequence"))
    return {
        OURS: our_rows.way(ours, model, given, right, small, streamed=False),
        STRAIGHT: our_rows.way(without, model, given, right, small, streamed=False),
        FLOOR: Way((server,), oip.INFER, body, rows.classes, right),
    }
