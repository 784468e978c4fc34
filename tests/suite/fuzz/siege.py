"""Sends cases to a live suite, many at once, and judges how each ended. Knows no case."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc import StatusCode, aio

from maas.gateway.v1 import gateway_service_pb2 as pb
from tests.suite.fuzz.cases import GATEWAY, Case, case

STUCK_S, AT_ONCE, LONGEST = 60.0, 16, 20_000
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
# How a call may end, whatever it holds: it is answered, or its sender is told what is wrong with it.
FAIR = {
    StatusCode.OK,
    StatusCode.INVALID_ARGUMENT,
    StatusCode.NOT_FOUND,
    StatusCode.FAILED_PRECONDITION,
    StatusCode.RESOURCE_EXHAUSTED,
    StatusCode.UNIMPLEMENTED,
}
# Of calls in a call, and their own time may be as short as their sender wants it.
COMPOSED = {
    f"/{GATEWAY}/FanOut": pb.FanOutResponse,
    f"/{GATEWAY}/FanOutStream": pb.FanOutStreamResponse,
    f"/{GATEWAY}/RunPipeline": pb.RunPipelineResponse,
    f"/{GATEWAY}/RunPipelineStream": pb.RunPipelineStreamResponse,
}
CODES = {code.value[0]: code for code in StatusCode}


def fair(method: str, code: StatusCode) -> bool:
    """Whether a call may end so."""
    if method == f"/{GATEWAY}/FlushCache" and code is StatusCode.UNAVAILABLE:
        return True  # a busy Redis may not say that it has dropped everything
    return code in FAIR or (method in COMPOSED and code is StatusCode.DEADLINE_EXCEEDED)


@dataclass
class Siege:
    """`addresses` and `pids` by service. `endings` by method and code; `unfair` says which cases ended badly."""

    addresses: Mapping[str, str]
    pids: Mapping[str, int]
    seed: int
    patient: bool = False
    endings: Counter[tuple[str, str]] = field(default_factory=Counter)
    unfair: list[str] = field(default_factory=list)
    memory: list[Mapping[str, float]] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, -1)

    async def run(self, numbers: Sequence[int]) -> None:
        """Every case of `numbers`, `AT_ONCE` at a time; resident memory is sampled a hundred times."""
        left, every = iter(numbers), max(1, len(numbers) // 100)
        channels = {name: Doors.open(address) for name, address in self.addresses.items()}

        async def worker() -> None:
            for number in left:
                if number % every == 0:
                    self.memory.append({name: resident_mib(pid) for name, pid in self.pids.items()})
                await self._send(channels, number)

        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
        await asyncio.gather(*(doors.close() for doors in channels.values()))

    async def _send(self, doors: Mapping[str, "Doors"], number: int) -> None:
        one, begun = case(self.seed, number, self.patient), time.monotonic()
        code, told = await doors[one.door].ending(one)
        self.slowest = max(self.slowest, (time.monotonic() - begun, number))
        self.endings[one.method.rpartition("/")[2], code.name] += 1
        if not fair(one.method, code) or len(told) > LONGEST or "Traceback" in told:
            self.unfair.append(
                f"case({self.seed}, {number}, {self.patient}) {one.door} {one.method}: {code.name} {told[:300]}"
            )

    def tenths(self, name: str) -> list[float]:
        """Resident MiB of a service: the median of each tenth of the time."""
        found = sorted_tenths([sample[name] for sample in self.memory])
        return [round(tenth[len(tenth) // 2], 1) for tenth in found]

    def told(self) -> str:
        """A table for people."""
        lines = [f"{count:8} {method} {code}" for (method, code), count in sorted(self.endings.items())]
        lines += [f"{name} MiB by tenths: {self.tenths(name)}" for name in self.pids if len(self.memory) > 10]
        return "\n".join([*lines, f"slowest: {self.slowest[0]:.2f} s, case {self.slowest[1]}"])


def sorted_tenths(values: Sequence[float]) -> list[list[float]]:
    size = len(values) // 10
    return [sorted(values[at * size : (at + 1) * size]) for at in range(10)]


@dataclass(frozen=True)
class Doors:
    """Two ways to one server."""

    unary: aio.Channel
    streams: grpc.Channel

    @classmethod
    def open(cls, address: str) -> "Doors":
        return cls(aio.insecure_channel(address, OPTIONS), grpc.insecure_channel(address, OPTIONS))

    async def ending(self, one: Case) -> tuple[StatusCode, str]:
        """How the call ends."""
        if one.streams:
            return await asyncio.to_thread(_streamed, self.streams, one)
        return await _ending(self.unary, one)

    async def close(self) -> None:
        await self.unary.close()
        self.streams.close()


async def _ending(channel: aio.Channel, one: Case) -> tuple[StatusCode, str]:
    try:
        reply = await channel.unary_unary(one.method)(one.bodies[0], timeout=STUCK_S)
    except aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return _inside(one, reply)


def _inside(one: Case, reply: bytes) -> tuple[StatusCode, str]:
    """The worst of the results that a reply holds."""
    kind = COMPOSED.get(one.method)
    if kind is not None:
        found: Any = kind.FromString(reply)
        for result in [found.result] if hasattr(found, "result") else found.results:
            if result.HasField("status") and not fair(one.method, CODES[result.status.code]):
                return CODES[result.status.code], result.status.message
    return StatusCode.OK, ""


def _streamed(channel: grpc.Channel, one: Case) -> tuple[StatusCode, str]:
    """By the library's other client: the asyncio one loses a status that comes while it still sends."""
    try:
        for reply in channel.stream_stream(one.method)(iter(one.bodies), timeout=STUCK_S):
            if (worst := _inside(one, reply))[0] is not StatusCode.OK:
                return worst
    except grpc.RpcError as error:
        return error.code(), error.details() or ""
    return StatusCode.OK, ""


def resident_mib(pid: int) -> float:
    """VmRSS of proc(5)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"^VmRSS:\s+(\d+) kB", status, re.M)[0]) / 1024
