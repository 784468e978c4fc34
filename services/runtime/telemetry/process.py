"""What this process takes of its machine, by the names that every Prometheus client uses. Knows no call."""

import resource
import time
from importlib.metadata import version
from pathlib import Path
from platform import python_version

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge

PAGE = resource.getpagesize()


class ProcessMetrics:
    """Of several workers the sum, which the client's own collector does not make."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, mode: str) -> Gauge:
            return Gauge(name, text, registry=registry, multiprocess_mode=mode)  # type: ignore[arg-type]

        self._cpu = Counter("process_cpu_seconds", "CPU time, user and system", registry=registry)
        self._memory = gauge("process_resident_memory_bytes", "memory in use", "livesum")
        self._files = gauge("process_open_fds", "open files and sockets", "livesum")
        gauge("process_max_fds", "files and sockets that may be open", "livesum").set(
            resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        )
        gauge("process_start_time_seconds", "when it began, since the epoch", "max").set(time.time())
        build = {"version": version("maas"), "python": python_version(), "grpc": grpc.__version__}
        Gauge("maas_build_info", "what runs", list(build), registry=registry, multiprocess_mode="max").labels(
            **build
        ).set(1)
        self._spent = 0.0

    def tell(self) -> None:
        spent = time.process_time()
        self._cpu.inc(spent - self._spent)
        self._spent = spent
        self._memory.set(resident())
        self._files.set(sum(1 for _ in Path("/proc/self/fd").iterdir()))


def resident() -> int:
    """Bytes of memory that this process has in use."""
    return int(Path("/proc/self/statm").read_bytes().split()[1]) * PAGE
