"""Small honest models behind the Open Inference Protocol, on a real server: one for each rule."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maas.oip.v1 import grpc_service_pb2_grpc as pb_grpc
from services.runtime.errors import Overloaded
from services.runtime.floor import Floor
from services.runtime.oip import OipService
from services.runtime.oip_statistics import Tallies
from services.runtime.settings import ServerSettings
from services.runtime.store.manifest import Manifest, TensorSpec
from services.runtime.store.store import ModelStore

TASK = "vision.classify"
DATATYPES = [
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "BF16",
    "FP32",
    "FP64",
    "BYTES",
]
LABELS = {"y": ["ant", "bee", "cat"]}


@dataclass
class Same:
    """Gives what it gets: y = x [-1, 4]; z is the first column."""

    manifest: Manifest
    datatype: str = "FP32"
    oip_rows: int = 8
    oip_idle_s: float | None = None
    oip_labels: Mapping[str, Sequence[str]] = field(default_factory=lambda: LABELS)

    @property
    def oip_inputs(self) -> Sequence[TensorSpec]:
        return [TensorSpec(name="x", dtype=self.datatype, shape=(-1, 4))]

    @property
    def oip_outputs(self) -> Sequence[TensorSpec]:
        first = TensorSpec(name="z", dtype=self.datatype, shape=(-1, 1))
        return [TensorSpec(name="y", dtype=self.datatype, shape=(-1, 4)), first]

    async def warm_up(self) -> None: ...

    async def close(self) -> None: ...

    async def infer(self, inputs: Mapping[str, Any], deadline: float | None) -> Mapping[str, Any]:
        return {"y": inputs["x"], "z": inputs["x"][:, :1]}


class Slow(Same):
    """Sleeps for x[0, 0] seconds; remembers the deadline of each call and how many were inside at once."""

    deadlines: list[float | None]
    inside = most = 0

    @classmethod
    def forget(cls) -> None:
        cls.deadlines, cls.inside, cls.most = [], 0, 0

    async def infer(self, inputs: Mapping[str, Any], deadline: float | None) -> Mapping[str, Any]:
        Slow.deadlines.append(deadline)
        Slow.inside += 1
        Slow.most = max(Slow.most, Slow.inside)
        try:
            await asyncio.sleep(float(inputs["x"][0, 0]))
        finally:
            Slow.inside -= 1
        return await super().infer(inputs, deadline)


class Broken(Same):
    """Fails for reasons that are nobody's business."""

    async def infer(self, inputs: Mapping[str, Any], deadline: float | None) -> Mapping[str, Any]:
        raise RuntimeError("the password is swordfish")


class Busy(Same):
    """Takes one request at a time and refuses the others."""

    inside = 0

    async def infer(self, inputs: Mapping[str, Any], deadline: float | None) -> Mapping[str, Any]:
        if Busy.inside:
            raise Overloaded("one is inside", reason="QUEUE_FULL")
        Busy.inside += 1
        try:
            await asyncio.sleep(0.01)
            return await super().infer(inputs, deadline)
        finally:
            Busy.inside -= 1


OTHERS: dict[str, type[Same]] = {"slow": Slow, "broken": Broken, "busy": Busy}


async def load(manifest: Manifest, directory: Path) -> Same:
    if manifest.name in OTHERS:
        return OTHERS[manifest.name](manifest)
    return Same(manifest, manifest.name.removeprefix("same-").upper())


@asynccontextmanager
async def served(root: Path, datatypes: Sequence[str] = DATATYPES) -> AsyncIterator[str]:
    """The address of a server with a model of each datatype, and the others."""
    Slow.forget()
    store = ModelStore(root)
    for name in [*(f"same-{datatype.lower()}" for datatype in datatypes), *OTHERS]:
        with store.publish(name) as draft:
            (draft.directory / "weights.bin").write_bytes(b"none")
            draft.fields.update(tasks=[TASK], config={})
    floor: Floor[ServerSettings] = Floor(ServerSettings(port=0, lame_duck_s=0, drain_s=0.2, store=root))
    host = floor.host("vision", load, {})
    oip = OipService(floor.follower(host), floor.readiness, Tallies())
    floor.add(pb_grpc.add_GRPCInferenceServiceServicer_to_server, oip)
    port = await floor.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await floor.close()
