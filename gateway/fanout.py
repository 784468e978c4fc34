"""Many calls at once, each with its reply or its status. Every call takes the ordinary path."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from gateway.budget import Budget
from gateway.convert import check_ids
from gateway.one_call import Caller, Finished, ended
from maas.gateway.v1 import gateway_pb2
from services.runtime.errors import ServiceError

DEFAULT_PARALLEL = 16
# A result's own place in the reply, at most.
FRAME_BYTES = 16


class FanOut:
    """Runs calls in parallel, within a bound and the caller's deadline."""

    def __init__(self, caller: Caller, most_bytes: int) -> None:
        """`most_bytes`: what one reply may hold."""
        self._caller, self._most_bytes = caller, most_bytes

    async def together(
        self, calls: Sequence[gateway_pb2.Call], max_parallel: int, fail_fast: bool
    ) -> list[Finished]:
        """All of them, as they finished; one whose reply would be too much for one message is a status."""
        budget = Budget(self._most_bytes, "what the calls reply", "FAN_OUT_TOO_LARGE")
        async with aclosing(self.run(calls, max_parallel, fail_fast, budget)) as ends:
            return [finished async for finished in ends]

    async def run(
        self, calls: Sequence[gateway_pb2.Call], max_parallel: int, fail_fast: bool, budget: Budget | None = None
    ) -> AsyncGenerator[Finished, None]:
        """Each call as it finishes. Under `fail_fast` the first fatal failure is raised after it was yielded."""
        check_ids(calls)
        gate = asyncio.Semaphore(max_parallel or DEFAULT_PARALLEL)
        tasks = [asyncio.create_task(self._gated(gate, index, call, budget)) for index, call in enumerate(calls)]
        try:
            for next_one in asyncio.as_completed(tasks):
                finished = await next_one
                yield finished
                # Not before: replies that a slow reader has not taken yet are no more than run at once.
                gate.release()
                if fail_fast and finished.fatal is not None:
                    raise finished.fatal
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _gated(
        self, gate: asyncio.Semaphore, index: int, call: gateway_pb2.Call, budget: Budget | None
    ) -> Finished:
        await gate.acquire()
        started = time.monotonic()
        finished = await self._caller.finish(index, call)
        try:
            if budget is not None:
                budget.spend(finished.result.ByteSize() + FRAME_BYTES)
        except ServiceError as error:
            return ended(index, call, error, started)
        return finished
