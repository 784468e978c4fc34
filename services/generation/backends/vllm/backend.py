"""The backend over a running vLLM, which brings token ids: text, stop strings and ends are decided here, as for
the suite's own engine. Knows no vLLM and no protos."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager

from services.generation.backends.vllm import orders
from services.generation.backends.vllm.capabilities import HONOURED
from services.generation.backends.vllm.client import Client, Found, Output
from services.generation.engine.advance import advance
from services.generation.engine.output import Delta, FinishReason, PositionLogprobs, TokenLogprob
from services.generation.engine.request import Sequence as EngineSequence
from services.generation.seats import RETRY_AFTER_S, Seats, never, unloaded
from services.generation.stream import Observer, TokenStream
from services.runtime.errors import DeadlinePassed, Unavailable


class VLLMBackend:
    """One task a sequence; made, used and closed on one event loop. `context`: most tokens of a sequence."""

    capabilities = HONOURED

    def __init__(
        self, client: Client, observer: Observer, *, context: int, vocab_size: int, queue_limit: int
    ) -> None:
        self._client = client
        self._observer = observer
        self._context = context
        self._vocab_size = vocab_size
        self._seats = Seats(queue_limit)
        self._live: dict[asyncio.Task[None], EngineSequence] = {}

    @contextmanager
    def open(self, sequences: Sequence[EngineSequence], *, whole: bool = False) -> Iterator[TokenStream]:
        """As `Backend.open`. Also raises InvalidInput for values that vLLM does not take."""
        orders.check(sequences[0].request, self._context)
        with self._seats.take(sequences[0].request.tenant, len(sequences)):
            stream = TokenStream(sequences, self._observer, never if whole else self._seats.gap)
            tasks = self._start(stream)
            try:
                yield stream
            finally:
                for task in tasks:
                    task.cancel()

    async def close(self) -> None:
        """Ends what still runs with Unavailable, then vLLM's processes."""
        self._seats.closing = True
        live = dict(self._live)
        for task in live:
            task.cancel()
        await asyncio.gather(*live, return_exceptions=True)
        for task, sequence in live.items():
            if task.cancelled():
                sequence.listener(Delta(sequence, error=unloaded()))
        await asyncio.to_thread(self._client.shutdown)

    def _start(self, stream: TokenStream) -> list[asyncio.Task[None]]:
        scored = asyncio.Event()
        tasks = []
        for sequence in stream.sequences:
            sequence.listener = stream.feed
            task = asyncio.create_task(self._run(sequence, scored))
            self._live[task] = sequence
            task.add_done_callback(self._live.pop)
            tasks.append(task)
        return tasks

    async def _run(self, sequence: EngineSequence, scored: asyncio.Event) -> None:
        """Feeds the listener every delta, of which exactly one is the last."""
        deadline = asyncio.timeout(_left(sequence.request.deadline))
        try:
            async with deadline:
                last = await self._generate(sequence, scored)
        except Exception as error:
            passed = DeadlinePassed("the deadline passed; the generation was stopped")
            # Else a TimeoutError is one of vLLM's own.
            last = Delta(sequence, error=passed if deadline.expired() else error)
        sequence.listener(last)

    async def _generate(self, sequence: EngineSequence, scored: asyncio.Event) -> Delta:
        """Feeds the listener all but the last delta. The others of a request wait until its prompt is scored."""
        if sequence.awaits_scores:
            await scored.wait()
        async with aclosing(self._client.generate(orders.order(sequence, self._vocab_size))) as outputs:
            async for output in outputs:
                _note(sequence, output)
                if not sequence.request.scores_missing:
                    scored.set()
                for place in range(len(output.token_ids)):
                    delta = self._delta(sequence, output, place)
                    if delta.last:
                        return delta
                    sequence.listener(delta)
        raise Unavailable("the engine gave a sequence up; retry", retry_after_s=RETRY_AFTER_S)

    def _delta(self, sequence: EngineSequence, output: Output, place: int) -> Delta:
        """One token further, or only the end where none is wanted."""
        if sequence.request.stopping.max_tokens == 0:
            return Delta(sequence, finish=FinishReason.LENGTH, batch_size=output.batch_size)
        token, wanted = output.token_ids[place], sequence.request.logprobs
        position = _position(token, output.logprobs[place], wanted or 0)
        return Delta(
            sequence,
            text=advance(sequence, token, self._context),
            token_ids=(token,),
            logprob=position.chosen.logprob,
            logprobs=() if wanted is None else (position,),
            finish=sequence.finish,
            batch_size=output.batch_size,
        )


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else deadline - time.monotonic()


def _note(sequence: EngineSequence, output: Output) -> None:
    """What the first output tells of the prompt."""
    request = sequence.request
    if sequence.started is None:
        sequence.started, sequence.cached_tokens = output.scheduled, output.cached_tokens
    for place, found in enumerate(output.prompt_logprobs):
        if found is not None:
            scores = _position(request.prompt[place], found, request.prompt_logprobs or 0)
            request.prompt_scores[place] = scores


def _position(token: int, found: Mapping[int, Found], top: int) -> PositionLogprobs:
    """Of those found, the `top` likeliest and the token's own, which may be no part of them."""
    known = {each: TokenLogprob(each, one.logprob, one.rank) for each, one in found.items()}
    best = sorted(known.values(), key=lambda one: one.rank)[:top]
    return PositionLogprobs(known[token], tuple(best))
