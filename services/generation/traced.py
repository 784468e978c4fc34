"""What the trace of a call tells of its generation: its wait, its prompt, its tokens, the engine's steps for it.

Knows no engine and no stream.
"""

import time
from collections.abc import Iterable

from services.generation.engine.output import Delta
from services.runtime.tracing.joined import joined
from services.runtime.tracing.span import Span


def told_step(deltas: Iterable[Delta], began: float, ended: float) -> None:
    """One step, to the traced calls that it moved: which others it moved is told by links."""
    moved = {id(delta.sequence.span): delta.sequence.span for delta in deltas if delta.sequence.span is not None}
    if moved:
        about = {"maas.step.tokens": sum(len(delta.token_ids) for delta in deltas)}
        joined("engine step", list(moved.values()), began, ended, about)


def told_phases(
    call: Span, submitted: float, started: float | None, first: float | None, prompt: int, cached: int
) -> None:
    """The way of a request of `prompt` tokens, `cached` of them known; it ended just now.

    Times are time.monotonic() seconds; None: it never came so far.
    """
    now = time.monotonic()
    call.child("queue", began=submitted).end(at=now if started is None else started)
    if started is not None:
        prefill = call.child("prefill", began=started)
        prefill.attributes |= {"maas.prompt_tokens": prompt, "maas.cached_tokens": cached}
        prefill.end(at=now if first is None else first)
    if first is not None:
        call.child("decode", began=first).end(at=now)
