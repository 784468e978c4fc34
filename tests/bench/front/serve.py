"""Runs a server of ours, or the bare echo, on the transport of this folder: `serve [--table] MODULE FLAGS`.

With `--table`, requests that the gateway answered from its memory are answered by the compiled part from then on.
"""

import runpy
import sys
from typing import Any

from grpc import aio

from services.runtime import ahead
from tests.bench.front.server import Server, native

TABLE_BYTES = 64 * 1024 * 1024


def forgets(table: Any) -> None:
    """A flush and any change of a model empty the table."""
    from gateway.cache import Cache
    from gateway.versions import ModelIndex

    for kind, name in ((Cache, "drop"), (ModelIndex, "_tell")):
        setattr(kind, name, _after(table.clear, getattr(kind, name)))


def _after(first: Any, then: Any) -> Any:
    def both(*args: Any) -> Any:
        first()
        return then(*args)

    return both


def swap(table: Any = None) -> None:
    """From now on servers of this process are ours."""
    aio.server = lambda options=(), **_: Server(options, table)
    # What it does for grpc.aio's own call, `Call.answer` does for ours.
    ahead.join = lambda: True


def main() -> None:
    arguments = sys.argv[1:]
    table = native.Table(TABLE_BYTES) if arguments[0] == "--table" else None
    if table is not None:
        forgets(table)
        arguments = arguments[1:]
    swap(table)
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
