"""One server process: what every service starts with and how it stops.

Start: health NOT_SERVING → port open → models verified and warmed up → SERVING.
Stop, on SIGTERM or SIGINT: NOT_SERVING → lame duck, still accepting → stop accepting, calls in progress end
within the drain bound → engines → channels. A second signal forces.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import uvloop

from services.runtime import logs, settings, workers
from services.runtime.floor import Floor, S
from services.runtime.garbage import Settling
from services.runtime.telemetry.port import expose

log = logging.getLogger("maas.server")

Build = Callable[[Floor[S]], Awaitable[None]]


async def serve(chosen: S, build: Build[S]) -> None:
    """Runs one server until a signal, then stops it in order. Raises RuntimeError if it cannot start."""
    stopping = asyncio.create_task(_stop_on_signals().wait())
    floor: Floor[S] = Floor(chosen, Settling().again)
    await build(floor)
    stop_metrics = expose(floor.metrics, chosen, floor.certificates)
    starting = asyncio.create_task(floor.start())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            await stopping
        starting.cancel()
    finally:
        log.info("stopping", extra={"inside": floor.admission.inside})
        try:
            await floor.close()
        finally:
            stop_metrics()
            log.info("stopped")


def _stop_on_signals() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the second ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            log.warning("forced")
            sys.stderr.flush()
            raise SystemExit(130)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return stop


def main(cls: type[S], build: Build[S], name: str, argv: Sequence[str] | None = None) -> None:
    """`python -m services.<name>`: settings → workers → serve."""
    chosen = settings.load(cls, sys.argv[1:] if argv is None else argv, name)
    logs.configure(name, chosen.log_level, chosen.log_redactor, chosen.log_bodies)
    if workers.is_worker():
        workers.follow_parent()
    elif chosen.workers > 1:
        raise SystemExit(workers.supervise(chosen.workers))
    runner = uvloop.run if chosen.uvloop else asyncio.run
    try:
        with suppress(KeyboardInterrupt):
            runner(serve(chosen, build))
    except (RuntimeError, OSError) as error:
        # Typically a port in use: the operator needs the sentence, not the stack.
        log.critical("cannot run", extra={"error": str(error)})
        raise SystemExit(1) from None
