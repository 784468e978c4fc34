"""The replies, or an error, of a request's parts → those of the whole. Pure: knows messages and no replica."""

import re
from collections.abc import Sequence
from typing import Any

from google.protobuf.any_pb2 import Any as Packed
from google.rpc import error_details_pb2

from maas.common.v1.served_pb2 import Timing
from services.runtime.errors import ServiceError
from services.runtime.status import to_status


def joined(replies: Sequence[Any]) -> Any:
    """One reply, as if one replica had answered all; `replies` are in order and of one model version."""
    whole = type(replies[0])()
    for reply in replies:
        whole.MergeFrom(reply)
    names = whole.DESCRIPTOR.fields_by_name
    if "embeddings" in names:
        _stack(whole.embeddings, [reply.embeddings for reply in replies])
    if "total" in names:
        whole.total = sum(reply.total for reply in replies)
    whole.timing.CopyFrom(_timing([reply.timing for reply in replies]))
    return whole


def renumbered(error: ServiceError, path: str, first: int) -> ServiceError:
    """The error of the part whose items begin at `first`, naming items as the whole request counts them."""
    if not first:
        return error
    # A field's name stands at the beginning, or after another field's description.
    item = re.compile(rf"(^|; ){re.escape(path)}\[(\d+)\]")

    def whole(text: str) -> str:
        return item.sub(lambda found: f"{found[1]}{path}[{int(found[2]) + first}]", text)

    status = to_status(error)
    status.message = whole(status.message)
    for detail in status.details:
        _rename(detail, whole)
    told = ServiceError(status.message, reason=error.reason, retry_after_s=error.retry_after_s)
    told.code, told.relayed = error.code, status.SerializeToString()
    return told


def _rename(detail: Packed, whole: Any) -> None:
    bad = error_details_pb2.BadRequest()
    if detail.Unpack(bad):
        for violation in bad.field_violations:
            violation.field = whole(violation.field)
        detail.Pack(bad)


def _stack(whole: Any, rows: Sequence[Any]) -> None:
    """Tensors [items, …] below each other. Merging has put the readable values together already."""
    whole.shape[:] = [sum(one.shape[0] for one in rows), *rows[0].shape[1:]]
    whole.data = b"".join(one.data for one in rows)


def _timing(parts: Sequence[Timing]) -> Timing:
    """Side by side: the longest wait and total; what the devices computed is added up."""
    return Timing(
        queue_ms=max(part.queue_ms for part in parts),
        compute_ms=sum(part.compute_ms for part in parts),
        total_ms=max(part.total_ms for part in parts),
        batch_size=max(part.batch_size for part in parts),
    )
