"""The gateway's side of a traced call: a span for each call to a service. Knows no route and no retry."""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from grpc import StatusCode, aio

from services.runtime.context import RequestContext, current
from services.runtime.tracing.span import NOTHING, Kind, Span
from services.runtime.tracing.tracer import STATUS, rpc


def asking(path: str, address: str) -> AbstractContextManager[Span | None]:
    """Around one try at one replica; None where the call is not traced."""
    span = current().span
    return NOTHING if span is None else _asked(span.child(path[1:], Kind.CLIENT), path, address)


def told(span: Span | None, event: str) -> None:
    """Something happened on the way."""
    if span is not None:
        span.event(event)


def sent_again(why: str, address: str) -> None:
    """`retry` or `hedge`: the current call goes to one more replica; `address` is the one that made it so."""
    if (span := current().span) is not None:
        span.event(why, **{"server.address": address})


def inside(context: RequestContext, id: str) -> AbstractContextManager[Span | None]:
    """Around one call of many, whose `context` is its own: its parts hang on it, not on the whole."""
    if context.span is None:
        return NOTHING
    context.span = context.span.child("call")
    context.span.note("maas.call.id", id)
    return context.span


@contextmanager
def _asked(span: Span, path: str, address: str) -> Iterator[Span]:
    span.attributes |= {**rpc(path), "server.address": address}
    code: Any = StatusCode.OK
    try:
        yield span
    except aio.AioRpcError as error:
        code = error.code()
        raise
    except (asyncio.CancelledError, GeneratorExit):
        code = StatusCode.CANCELLED
        raise
    except BaseException:
        code = StatusCode.UNKNOWN
        raise
    finally:
        span.note(STATUS, code.value[0])
        span.end(failed=code is not StatusCode.OK)
