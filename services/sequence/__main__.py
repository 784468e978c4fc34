"""`python -m services.sequence`: builds the objects and hands them down."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from maas.oip.v1 import grpc_service_pb2_grpc
from maas.sequence.v1 import sequence_service_pb2_grpc
from services.runtime.device import DeviceThread
from services.runtime.floor import Floor
from services.runtime.health import OVERALL, Readiness
from services.runtime.host import ModelHost
from services.runtime.oip import OipService
from services.runtime.oip_statistics import Tallies
from services.runtime.server import main
from services.sequence.checkpoints.memory import Memory
from services.sequence.checkpoints.open import open_keeper
from services.sequence.load import Loader
from services.sequence.service import SequenceService
from services.sequence.sessions import SessionTable
from services.sequence.settings import SequenceSettings
from services.sequence.stepping import Sessions
from services.sequence.tensor_model import TensorModel
from services.sequence.tensor_sessions import TensorSessions

READERS = 2
SWEEP_S = 10.0


async def build(floor: Floor[SequenceSettings]) -> None:
    """Adds the sequence service and its models to a server."""
    settings = floor.settings
    device, explaining = DeviceThread("sequence-device", settings.lanes), DeviceThread("sequence-explain")
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="sequence-read")
    floor.on_close(lambda: asyncio.to_thread(device.close))
    floor.on_close(lambda: asyncio.to_thread(explaining.close))
    floor.on_close(lambda: asyncio.to_thread(pool.shutdown))
    tallies = Tallies()
    loader = Loader(device, explaining, settings, floor.metrics, tallies)
    host = floor.host("sequence", loader, settings.defaults)
    sessions = open_sessions(floor, host)
    _in_background(floor, sessions)
    servicer = SequenceService(host, sessions, pool, settings)
    floor.add(sequence_service_pb2_grpc.add_SequenceServiceServicer_to_server, servicer)
    oip = OipService(floor.follower(host), floor.readiness, tallies, TensorSessions(sessions))
    floor.add(grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server, oip)


def open_sessions(floor: Floor[SequenceSettings], host: ModelHost[TensorModel]) -> Sessions:
    """The sessions of this server, and what keeps them."""
    settings = floor.settings
    table: SessionTable[Memory] = SessionTable(
        time.monotonic,
        settings.session_idle_s,
        settings.session_limit,
        lambda: time.time_ns() // 1000,
        settings.session_limit_of_one,
    )
    return Sessions(host, table, asyncio.Event(), open_keeper(floor, table))


def _in_background(floor: Floor[SequenceSettings], sessions: Sessions) -> None:
    """Sweeps and counts sessions, and tells open streams when the server drains."""
    tasks = [
        asyncio.create_task(sessions.sweep(min(SWEEP_S, sessions.table.idle_s), floor.metrics.sessions.set)),
        asyncio.create_task(_tell_drain(floor.readiness, sessions)),
    ]

    async def stop() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    floor.on_close(stop)


async def _tell_drain(readiness: Readiness, sessions: Sessions) -> None:
    """Once every session is kept, so that whoever is told finds it elsewhere as it was."""
    async for _ in readiness.watch(OVERALL):
        if readiness.draining:
            break
    await sessions.keeper.settle()
    sessions.draining.set()


if __name__ == "__main__":
    main(SequenceSettings, build, "sequence")
