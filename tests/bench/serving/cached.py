"""A picture that was asked about before: our gateway's memory against Triton's response cache.

Ours is sent the JPEG. Triton is sent the tensor: kept by the client from before, or made of the JPEG each time.
"""

import asyncio
from collections.abc import Mapping
from functools import partial

from cli.embedded import valkey
from maas.vision.v1 import vision_pb2
from services.runtime.channels import open_channel
from tests.bench.load import interleave
from tests.bench.servers import suite
from tests.bench.serving import models, oip
from tests.bench.serving.pictures import CLASS, CLASSIFY, JPEG, Client, ours
from tests.bench.serving.report import OURS, TRITON, Result
from tests.bench.serving.stand import Bench, Stand, stand
from tests.bench.serving.ways import Way, always, points

SIZES = (1, 8, 32)
FORM = "repeated picture"


async def run(bench: Bench) -> list[Result]:
    """One result: hits only, as the gateway says of its own."""
    options = bench.options
    model = models.picture(options.store)
    assert model
    redis, url = valkey(options.home)
    programs = suite(options.store, url, options.environment)
    async with stand(bench, [redis, programs["vision"], programs["gateway"]], [model], ["triton"]) as up:
        gateway = up.servers["gateway"]
        asked = ours(gateway, vision_pb2.Image(encoded=JPEG.read_bytes()), reads=True, outcome="hit-l1")
        async with open_channel(gateway.address, retry=False) as channel:
            await channel.unary_unary(CLASSIFY)(await asked.make())  # the miss
        theirs = _triton(up, f"{model.name}-cached", model.inputs[0].name, Client(options.store))
        found = await interleave(
            points(FORM, SIZES, {OURS: asked, **theirs}, options.seconds), options.repeat, options.tell
        )
    return [Result(FORM, "pictures/s", found, FORM)]


def _triton(up: Stand, model: str, tensor: str, client: Client) -> Mapping[str, Way]:
    """The same call at its cheapest, and with all of the client's work."""
    if "triton" not in up.peers:
        return {}

    def body() -> bytes:
        return oip.request(model, {tensor: client.tensor(JPEG.read_bytes())})

    makes = {
        TRITON: always(body()),
        "triton, from JPEG": partial(asyncio.get_running_loop().run_in_executor, up.pool, body),
    }
    server = up.peer("triton")
    return {
        name: Way((server,), oip.INFER, make, client.best, CLASS, reads=True, held=True)
        for name, make in makes.items()
    }
