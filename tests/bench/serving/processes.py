"""From nothing to serving, and memory under load: ours with all their models, then all servers with one net each.

The store and the disk are warm; what is started is started alone.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from cli.program import Program
from maas.generation.v1 import generation_service_pb2
from maas.sequence.v1 import sequence_service_pb2
from maas.tokenization.v1 import tokenization_service_pb2
from maas.vision.v1 import vision_pb2, vision_service_pb2
from services.runtime.channels import open_channel
from tests.bench import family
from tests.bench.load import measure
from tests.bench.peers.serving.spec import Model
from tests.bench.servers import running, suite
from tests.bench.serving import models, oip, peers, pictures, rows
from tests.bench.serving.stand import Bench
from tests.bench.table import Table

COLUMNS = ("server", "start s", "processes", "MiB idle", "MiB under load", "MiB peak")
IN_FLIGHT = 8
Started = tuple[Program, tuple[str, bytes]]  # and how it is called: path, body
PROSE = "It was the best of times, it was the worst of times. " * 8


@dataclass(frozen=True, slots=True)
class Life:
    """One start: seconds until it served, memory then and after the load."""

    start_s: float
    idle: family.Memory
    loaded: family.Memory


async def run(bench: Bench) -> Table:
    """One table; a row a server, medians over the rounds."""
    options = bench.options
    await models.prepare_small(options)
    table = Table("serving: the processes", COLUMNS)
    net, small = models.picture(options.store), models.lstm(options)
    assert net
    # A server is told what to serve by one file of its own: the next ones are made when these have ended.
    for make in (_whole, partial(_others, net), partial(_small, small), partial(_others, small)):
        for name, (program, load) in make(bench).items():
            options.tell(f"starting {name}")
            found = [await _live(program, load, bench) for _ in range(options.repeat)]
            table.add([], name, *_medians(found))
    return table


def _whole(bench: Bench) -> dict[str, Started]:
    """Our services as `maas up` starts them, with all models of the store."""
    programs = suite(bench.options.store, extra=bench.options.environment)
    return {f"ours: {name}": (programs[name], load) for name, load in our_loads().items()}


def _small(net: Model, bench: Bench) -> dict[str, Started]:
    """Our service of series with the net that the others are given, in the same protocol."""
    series = {net.inputs[0].name: peers.blank(net)[net.inputs[0].name]}
    load = (oip.INFER, oip.request(net.name, series))
    return {f"ours: sequence, {net.name} alone": (rows.program(net.name, bench.options), load)}


def _others(net: Model, bench: Bench) -> dict[str, Started]:
    load = (oip.INFER, oip.request(net.name, peers.blank(net)))
    return {f"{name}: {net.name}": (peers.program(name, [net], bench.options, [""]), load) for name in bench.peers}


def our_loads() -> Mapping[str, tuple[str, bytes]]:
    """A method and a call of each service, by its name."""
    image = vision_pb2.Image(encoded=pictures.JPEG.read_bytes())
    embed = sequence_service_pb2.EmbedRequest(texts={"values": [PROSE]}, truncate=True)
    generate = generation_service_pb2.GenerateRequest(text=PROSE, stopping={"max_tokens": 16})
    tokenize = tokenization_service_pb2.TokenizeRequest(texts=[PROSE] * 64)
    classify = vision_service_pb2.ClassifyRequest(images=[image])
    return {
        "vision": ("/maas.vision.v1.VisionService/Classify", classify.SerializeToString()),
        "sequence": ("/maas.sequence.v1.SequenceService/Embed", embed.SerializeToString()),
        "tokenization": ("/maas.tokenization.v1.TokenizationService/Tokenize", tokenize.SerializeToString()),
        "generation": ("/maas.generation.v1.GenerationService/Generate", generate.SerializeToString()),
    }


async def _live(program: Program, load: tuple[str, bytes], bench: Bench) -> Life:
    path, body = load
    began = perf_counter()
    async with running([program], bench.options.logs) as servers:
        start_s, pid = perf_counter() - began, servers[program.name].process.pid
        idle = family.memory(pid)
        async with open_channel(program.address, retry=False) as channel:
            rpc = channel.unary_unary(path)
            await measure(lambda: rpc(body), IN_FLIGHT, bench.options.seconds)
        return Life(start_s, idle, family.memory(pid))


def _medians(lives: Sequence[Life]) -> tuple[float, ...]:
    rows = [
        (one.start_s, one.loaded.processes, one.idle.resident_mib, one.loaded.resident_mib, one.loaded.peak_mib)
        for one in lives
    ]
    return tuple(map(statistics.median, zip(*rows, strict=True)))
