"""From nothing to serving, and memory under load: each of our services, and each of the others with one net.

The store and the disk are warm; what is started is started alone.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

from cli.program import Program
from maas.generation.v1 import generation_service_pb2
from maas.sequence.v1 import sequence_service_pb2
from maas.tokenization.v1 import tokenization_service_pb2
from maas.vision.v1 import vision_pb2, vision_service_pb2
from services.runtime.channels import open_channel
from tests.bench import family
from tests.bench.load import measure
from tests.bench.servers import running, suite
from tests.bench.serving import models, oip, peers, pictures
from tests.bench.serving.stand import Bench
from tests.bench.table import Table

COLUMNS = ("server", "start s", "processes", "MiB idle", "MiB under load", "MiB peak")
IN_FLIGHT = 8
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
    table = Table("serving: the processes", COLUMNS)
    ours, net = suite(options.store, extra=options.environment), models.picture(options.store)
    assert net
    loads = our_loads()
    lives = {name: (ours[name], load) for name, load in loads.items()}
    body = oip.request(net.name, peers.blank(net))
    lives |= {name: (peers.program(name, [net], options, [""]), (oip.INFER, body)) for name in bench.peers}
    for name, (program, load) in lives.items():
        options.tell(f"starting {name}")
        found = [await _live(program, load, bench) for _ in range(options.repeat)]
        table.add([], f"ours: {name}" if name in loads else name, *_medians(found))
    return table


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
