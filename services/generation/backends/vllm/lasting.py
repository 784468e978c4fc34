"""A client whose engine is started again when its processes have died. Knows no vLLM."""

import logging
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing

from services.generation.backends.vllm.client import Client, EngineDied, Order, Output

log = logging.getLogger("maas.engine")


class LastingClient:
    """Takes over `client`; `launch` makes another, and blocks for as long as that takes."""

    def __init__(self, client: Client, launch: Callable[[], Client]) -> None:
        self._client = client
        self._launch = launch
        self._revival: Future[None] | None = None
        self._reviver = ThreadPoolExecutor(1, thread_name_prefix="vllm-start")

    async def generate(self, order: Order) -> AsyncGenerator[Output]:
        """As `Client.generate`. The first who hears of a death has the engine started again; others wait for it
        outside."""
        self._check()
        try:
            async with aclosing(self._client.generate(order)) as outputs:
                async for output in outputs:
                    yield output
        except EngineDied:
            self._revive()
            raise

    def shutdown(self) -> None:
        """As `Client.shutdown`; a start in progress is waited for."""
        self._reviver.shutdown(wait=True)
        self._client.shutdown()

    def _check(self) -> None:
        if self._revival is None:
            return
        if self._revival.done() and not self._revival.exception():
            self._revival = None
            return
        self._revive()
        raise EngineDied

    def _revive(self) -> None:
        if self._revival is None or (self._revival.done() and self._revival.exception()):
            self._revival = self._reviver.submit(self._start_again)

    def _start_again(self) -> None:
        log.error("vLLM's processes died; starting them again")
        try:
            self._client.shutdown()
            self._client = self._launch()
        except Exception:
            log.exception("vLLM did not start")
            raise
        log.info("vLLM runs again")
