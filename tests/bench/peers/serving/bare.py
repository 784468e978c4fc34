"""What one writes by hand: grpc.aio, one-thread ONNX Runtime sessions, what waits is a session's next batch."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import uvloop
from grpc import aio

from maas.oip.v1 import grpc_service_pb2 as pb
from tests.bench.peers.serving.oip import answer, arrays_of
from tests.bench.peers.serving.session import Array, Run, opened
from tests.bench.peers.serving.spec import MOST_ROWS, Model, Spec, told

SERVICE, METHOD = "inference.GRPCInferenceService", "ModelInfer"
MESSAGE_BYTES = 1 << 26
Arrays = dict[str, Array]
Infer = Callable[[pb.ModelInferRequest, aio.ServicerContext], Awaitable[pb.ModelInferResponse]]
Waiting = tuple[Arrays, asyncio.Future[Array]]


class Batcher:
    """The sessions of one model, each with a thread; a free one takes all that waits, up to MOST_ROWS rows."""

    def __init__(self, model: Model, pool: ThreadPoolExecutor, lanes: int) -> None:
        self._pool, self._waiting = pool, deque[Waiting]()
        self._free = [opened(model, threads=1) for _ in range(lanes)]
        self._running = set[asyncio.Task[None]]()

    async def infer(self, arrays: Arrays) -> Array:
        done: asyncio.Future[Array] = asyncio.get_running_loop().create_future()
        self._waiting.append((arrays, done))
        self._start()
        return await done

    def _start(self) -> None:
        while self._free and self._waiting:
            task = asyncio.ensure_future(self._compute(self._free.pop(), self._cut()))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def _cut(self) -> list[Waiting]:
        batch, rows = [self._waiting.popleft()], 0
        while self._waiting and (rows := rows + _rows(batch[-1])) + _rows(self._waiting[0]) <= MOST_ROWS:
            batch.append(self._waiting.popleft())
        return batch

    async def _compute(self, run: Run, batch: list[Waiting]) -> None:
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._pool, _together, run, batch)
        finally:
            self._free.append(run)
            self._start()
        for (_, done), part in zip(batch, found, strict=True):
            if not done.done():
                done.set_result(part)


def _rows(one: Waiting) -> int:
    return len(next(iter(one[0].values())))


def _together(run: Run, batch: list[Waiting]) -> list[Array]:
    """One run for all of a batch; each one's own rows of it."""
    if len(batch) == 1:
        return [run(batch[0][0])]
    names = batch[0][0]
    found = run({name: np.concatenate([arrays[name] for arrays, _ in batch]) for name in names})
    return np.split(found, np.cumsum([_rows(one) for one in batch])[:-1])


async def serve(port: int, infer: Infer) -> None:
    """ModelInfer on loopback, until killed."""
    sizes = [(f"grpc.max_{way}_message_length", MESSAGE_BYTES) for way in ("send", "receive")]
    server = aio.server(options=sizes)
    handler = grpc.unary_unary_rpc_method_handler(
        infer, pb.ModelInferRequest.FromString, pb.ModelInferResponse.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


async def batched(spec: Spec) -> None:
    """Until killed."""
    pool = ThreadPoolExecutor(spec.cores)
    batchers = {model.name: (model, Batcher(model, pool, spec.cores)) for model in spec.models}

    async def infer(request: pb.ModelInferRequest, context: aio.ServicerContext) -> pb.ModelInferResponse:
        model, batcher = batchers[request.model_name]
        return answer(request, model.output.name, await batcher.infer(arrays_of(request)))

    await serve(spec.port, infer)


if __name__ == "__main__":
    uvloop.run(batched(told()))
