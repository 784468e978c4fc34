"""A large request in parts, one a replica, at the same time: all answered by one model version, or none."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gateway import upstream
from gateway.backends import Backend
from gateway.methods import Method
from gateway.recall import LARGE_BYTES
from gateway.split.cut import Part, cut
from gateway.split.join import joined, renumbered
from gateway.versions import Serving
from services.runtime.errors import ServiceError


async def in_parts(
    backend: Backend, method: Method, request: Any, path: str, count: int, serving: Serving | None
) -> upstream.Reply | None:
    """The reply to the whole; None if the parts did not agree on a version. Raises the first error of a part."""
    # Copied and written on another thread where that takes long: nobody else waits meanwhile.
    large = request.ByteSize() > LARGE_BYTES
    work = (request, path, count, serving)
    parts = await asyncio.to_thread(cut, *work) if large else cut(*work)
    told = await _all(backend, method, path, parts)
    replies = [method.response.FromString(one.body) for one in told]
    return replace(told[0], body=joined(replies).SerializeToString()) if _agree(replies) else None


async def _all(backend: Backend, method: Method, path: str, parts: Sequence[Part]) -> list[upstream.Reply]:
    tasks = [asyncio.create_task(_one(backend, method, path, part)) for part in parts]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _one(backend: Backend, method: Method, path: str, part: Part) -> upstream.Reply:
    try:
        return await upstream.call(backend, method.path, part.body)
    except ServiceError as error:
        raise renumbered(error, path, part.first) from error


def _agree(replies: Sequence[Any]) -> bool:
    """Whether all are of one version and digest: a model may be swapped between one part and another."""
    return all(reply.served_by == replies[0].served_by for reply in replies)
