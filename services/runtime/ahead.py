"""Initial metadata in the batch of a unary reply. Knows no service and no word of the metadata.

grpc.aio's own call sends it in a batch before: one more write and wake-up on either side, and a moment in which a
proxy has seen the reply begin, and so can send the call nowhere else if this process dies.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from grpc._cython import cygrpc

from services.runtime.context import current

Batch = Callable[[Any, tuple[Any, ...], Any], Coroutine[Any, Any, None]]


def join() -> bool:
    """From now on every unary reply of this process carries its context's `initial`. False: it cannot be done.

    The pinned grpcio sends each batch by one function of its module, and puts empty initial metadata before the
    message and status of a unary reply. That function is replaced; twice does no harm.
    """
    execute: Batch | None = getattr(cygrpc, "execute_batch", None)
    if execute is None or not {"SendInitialMetadataOperation", "SendStatusFromServerOperation"} <= set(
        dir(cygrpc)
    ):
        return False
    if getattr(execute, "__module__", "") != __name__:
        cygrpc.execute_batch = _joining(execute)
    return True


def _joining(execute: Batch) -> Batch:
    metadata, status = cygrpc.SendInitialMetadataOperation, cygrpc.SendStatusFromServerOperation

    def execute_batch(call: Any, operations: tuple[Any, ...], loop: Any) -> Coroutine[Any, Any, None]:
        # A message between metadata and status: the end of a unary call, in its own task and so in its context.
        if len(operations) == 3 and type(operations[2]) is status and type(operations[0]) is metadata:
            operations = (metadata(tuple(current().initial), 0), *operations[1:])
        return execute(call, operations, loop)

    return execute_batch
