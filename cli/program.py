"""The programs of the suite: what is run, where it listens, in which environment. Runs nothing."""

import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cli.probe import grpc_serving
from cli.tls import tls_of

Probe = Callable[[], Awaitable[bool]]

PORTS = {"tokenization": 50051, "vision": 50052, "sequence": 50053, "generation": 50054, "gateway": 50050}
GATEWAY = "gateway"
METRICS_OFFSET = 4000
# A process whose threads share the cores with four others must not spin while it waits.
SHARED_MACHINE = {"OMP_WAIT_POLICY": "PASSIVE"}
# Servers read their sockets on the thread that waits for calls: as gRPC has it by default, a call passes two more
# threads, which costs a sixth of its CPU. A later gRPC that does not know the name says so and does as it likes.
READING = {"GRPC_EXPERIMENTS": "-event_engine_listener"}
# torch frees memory only to ask for it again at the next batch. ONNX Runtime keeps its own; of the rest, a large
# picture's goes back when it is freed, which glibc would keep in the arena of the thread that decoded it.
KEEPING = {
    "MALLOC_TRIM_THRESHOLD_": str(1 << 29),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 29),
    "MALLOC_TOP_PAD_": str(1 << 26),
}
GIVING_BACK = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 25),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 22),
}
# Convolutions walk through megabytes: in large pages (where the kernel gives them on request) with fewer misses.
LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
# Nobody balances over these processes: half a second covers the calls on their way when one stops.
ONE_MACHINE = {"MAAS_LAME_DUCK_S": "0.5"}
COMPUTING = ("vision", "sequence", "generation")


@dataclass(frozen=True, slots=True)
class Program:
    """One process. `probe` tells whether it serves; programs of a lower `stop_rank` are stopped first."""

    name: str
    command: tuple[str, ...]
    address: str
    probe: Probe
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_rank: int = 1


def services(
    host: str, ports: Mapping[str, int], store: Path, redis_url: str, environ: Mapping[str, str]
) -> list[Program]:
    """The four services and the gateway, wired to each other and to Redis, on top of `environ`."""
    kept = {key: value for key, value in environ.items() if key != "MAAS_PORT"}
    wiring = {f"MAAS_{name.upper()}_ADDRESS": f"{reachable(host)}:{port}" for name, port in ports.items()}
    shared = {**kept, **wiring, "MAAS_REDIS_URL": redis_url, "PYTHONUNBUFFERED": "1"}
    return [_service(name, host, ports[name], store, shared) for name in PORTS]


def reachable(host: str) -> str:
    """The address under which a server that listens on `host` is called from this machine."""
    return "127.0.0.1" if host in ("0.0.0.0", "::", "") else host


def _service(name: str, host: str, port: int, store: Path, shared: Mapping[str, str]) -> Program:
    module = name if name == GATEWAY else f"services.{name}"
    address = f"{reachable(host)}:{port}"
    flags = ["--host", host, "--port", str(port), *([] if name == GATEWAY else ["--store", str(store)])]
    command = (sys.executable, "-m", module, *flags)
    environment = {**ONE_MACHINE, **READING, **_threads(name), **shared}
    tls = tls_of(environment)
    return Program(name, command, address, lambda: grpc_serving(address, tls), environment, int(name != GATEWAY))


def _threads(name: str) -> dict[str, str]:
    """Threads and memory of a process: those that compute get half the cores, the others one thread."""
    if name not in COMPUTING:
        return {"OMP_NUM_THREADS": "1"}
    half = str(max(1, len(os.sched_getaffinity(0)) // 2))
    # the kernels of generation have threads of their own
    own = {"MAAS_THREADS": half, **KEEPING} if name == "generation" else GIVING_BACK
    pages = LARGE_PAGES if name == "vision" else {}
    return {"OMP_NUM_THREADS": half, **own, **pages, **SHARED_MACHINE}
