"""What an engine tells of itself → the metrics table. Knows no tokens, only times and counts."""

from collections.abc import Callable

from services.generation.engine.load import Load
from services.runtime.metrics import Metrics
from services.runtime.tracing.span import Span


class GenerationMetrics:
    """The observer of one model's engine; called on the event loop's thread."""

    def __init__(self, metrics: Metrics, model: str, broke: Callable[[], None] = lambda: None) -> None:
        self.broke = broke
        self._blocks = {state: metrics.kv_blocks.labels(model, state) for state in ("held", "cached", "blank")}
        self._waiting = {rank: metrics.waiting.labels(model, rank) for rank in ("high", "normal", "low")}
        self._depth = metrics.queue_depth.labels(model)
        self._batch = metrics.batch_size.labels(model)
        self._wait = metrics.queue_seconds.labels(model)
        self._first = metrics.first_token.labels(model)
        self._next = metrics.inter_token.labels(model)
        self._totals = {
            "steps": metrics.engine_steps.labels(model),
            "preemptions": metrics.preemptions.labels(model),
            "skipped": metrics.skipped.labels(model, "deadline"),
            "drafted": metrics.drafts.labels(model, "drafted"),
            "accepted": metrics.drafts.labels(model, "accepted"),
        }
        self._counted = dict.fromkeys(self._totals, 0)
        self._tokens = {kind: metrics.tokens.labels(model, kind) for kind in ("prompt", "cached", "completion")}

    def stepped(self, sequences: int, waiting: int) -> None:
        """One step: how many sequences it moved, how many wait."""
        self._batch.observe(sequences)
        self._depth.set(waiting)

    def stands(self, load: Load) -> None:
        """How the engine stands now."""
        for state, blocks in self._blocks.items():
            blocks.set(load.blocks[state])
        for rank, waiting in self._waiting.items():
            waiting.set(load.waiting[rank])
        for name, total in self._totals.items():
            now = getattr(load, name)
            total.inc(now - self._counted[name])
            self._counted[name] = now

    def tokens(self, count: int, since_s: float, first: bool, span: Span | None = None) -> None:
        """Output tokens at once, so long after the ones before them, or after submission."""
        self._tokens["completion"].inc(count)
        (self._first if first else self._next).observe(since_s, span.exemplar if span is not None else None)

    def started(self, queue_s: float, prompt_tokens: int, cached_tokens: int) -> None:
        """A request's prompt was computed for the first time."""
        self._wait.observe(queue_s)
        self._tokens["prompt"].inc(prompt_tokens)
        self._tokens["cached"].inc(cached_tokens)
