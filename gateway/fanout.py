"""Many calls at once, each with its reply or its status. Every call takes the ordinary path."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from gateway.convert import check_ids
from gateway.one_call import Caller, Finished
from maas.gateway.v1 import gateway_pb2

DEFAULT_PARALLEL = 16


class FanOut:
    """Runs calls in parallel, within a bound and the caller's deadline."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def run(
        self, calls: Sequence[gateway_pb2.Call], max_parallel: int, fail_fast: bool
    ) -> AsyncGenerator[Finished, None]:
        """Each call as it finishes. Under `fail_fast` the first fatal failure is raised after it was yielded."""
        check_ids(calls)
        gate = asyncio.Semaphore(max_parallel or DEFAULT_PARALLEL)
        tasks = [asyncio.create_task(self._gated(gate, index, call)) for index, call in enumerate(calls)]
        try:
            for next_one in asyncio.as_completed(tasks):
                finished = await next_one
                yield finished
                if fail_fast and finished.fatal is not None:
                    raise finished.fatal
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _gated(self, gate: asyncio.Semaphore, index: int, call: gateway_pb2.Call) -> Finished:
        async with gate:
            return await self._caller.finish(index, call)
