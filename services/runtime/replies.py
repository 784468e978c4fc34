"""The two blocks every inference reply carries: who answered, and where the time went."""

from typing import Any

from maas.common.v1 import served_pb2
from services.runtime.batcher import Outcome
from services.runtime.context import current
from services.runtime.store.manifest import Manifest


def served_by(manifest: Manifest, digest: str = "") -> served_pb2.ServedBy:
    """Model, version and digest: the manifest's unless more than the model decided."""
    return served_pb2.ServedBy(
        model=manifest.name, version=str(manifest.version), digest=digest or manifest.digest
    )


def timing(
    outcome: Outcome[Any] | None = None, *, compute_ms: float = 0.0, batch_size: int = 1
) -> served_pb2.Timing:
    """Queue and compute time of a batched item, or of work done without a batcher; total since the call began."""
    if outcome is not None:
        return served_pb2.Timing(
            queue_ms=outcome.queue_ms,
            compute_ms=outcome.compute_ms,
            total_ms=current().elapsed_ms(),
            batch_size=outcome.batch_size,
        )
    return served_pb2.Timing(compute_ms=compute_ms, total_ms=current().elapsed_ms(), batch_size=batch_size)
