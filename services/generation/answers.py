"""Deltas → maas.generation.v1 answers. Knows no gRPC; `convert.py` is the other direction."""

import math
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from maas.common.v1 import served_pb2
from maas.generation.v1 import generation_pb2 as pb
from maas.generation.v1 import generation_service_pb2 as service_pb
from services.generation.convert import Scoring
from services.generation.engine.output import Delta, FinishReason, PositionLogprobs, StopMatch, TokenLogprob
from services.generation.engine.request import Request
from services.generation.job import Job
from services.generation.model import GenerationModel
from services.generation.stream import TokenStream
from services.runtime.batcher import Outcome
from services.runtime.context import RequestContext
from services.runtime.replies import served_by, timing
from services.runtime.text.tokenizer import Tokenizer

FINISH_REASONS: dict[FinishReason | None, pb.FinishReason.ValueType] = {
    None: pb.FINISH_REASON_UNSPECIFIED,
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.EOS: pb.FINISH_REASON_EOS,
}

NONE_BEGUN: Mapping[int, float] = {}


@dataclass(slots=True)
class Piece:
    """Deltas of one sequence, joined. total_logprob: of all its tokens up to here, those of pieces before too."""

    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[PositionLogprobs] = field(default_factory=list)
    total_logprob: float = 0.0
    finish: FinishReason | None = None
    stop_match: StopMatch | None = None

    def take(self, delta: Delta) -> None:
        """Add what one step brought."""
        self.text += delta.text
        self.token_ids += delta.token_ids
        self.logprobs += delta.logprobs
        self.total_logprob += delta.logprob
        if delta.last:
            self.finish, self.stop_match = delta.finish, delta.sequence.stop_match


async def collected(stream: TokenStream, job: Job) -> list[Piece]:
    """Every sequence of the job, whole, by index."""
    pieces = [Piece(index, job.prefix) for index in range(job.draws)]
    async for batch in stream.batches():
        for delta in batch:
            pieces[delta.sequence.index].take(delta)
    return pieces


async def pieces(
    stream: TokenStream, job: Job, begun: Mapping[int, float] = NONE_BEGUN
) -> AsyncGenerator[Piece, None]:
    """The job's text as it comes, `interval` tokens a piece or more; pieces of one index join to the whole.
    `begun`: of which the prefix was told before, with the log probability of what was told."""
    open_pieces = {index: Piece(index, "" if index in begun else job.prefix) for index in range(job.draws)}
    for index, total in begun.items():
        open_pieces[index].total_logprob = total
    async for batch in stream.batches():
        for delta in batch:
            open_pieces[delta.sequence.index].take(delta)
        for index in {delta.sequence.index: None for delta in batch}:
            piece = open_pieces[index]
            if piece.finish or len(piece.token_ids) >= job.interval:
                open_pieces[index] = Piece(index, total_logprob=piece.total_logprob)
                yield piece


def reported(*lists: Iterable[PositionLogprobs]) -> int:
    """Log probabilities that an answer spells out: what decides whether a thread does it."""
    return sum(1 + len(position.top) for positions in lists for position in positions)


def size(job: Job, found: Sequence[Piece]) -> int:
    """Work of `generated`, or of a stream's message, in log probabilities."""
    return reported(job.request.prompt_scores.values(), *(piece.logprobs for piece in found))


def generated(
    model: GenerationModel, job: Job, found: Sequence[Piece], stream: TokenStream, call: RequestContext
) -> service_pb.GenerateResponse:
    """The best `n` of the sequences, likeliest a token first where more were drawn."""
    words = model.tokenizer
    best = sorted(found, key=_mean_logprob, reverse=True)[: job.n] if job.draws > job.n else found
    return service_pb.GenerateResponse(
        completions=[_completion(place, piece, words) for place, piece in enumerate(best)],
        usage=_usage(job, stream, sum(len(piece.token_ids) for piece in found)),
        seed=job.request.seed,
        prompt_logprobs=_prompt_positions(job.request, words),
        served_by=served_by(model.manifest, model.digest),
        timing=_timing(stream, call),
    )


def _single(value: float) -> float:
    """In single precision, as a Completion carries it. Before the end all digits are told: whoever resumes goes on
    from them, and comes to the same sum."""
    return float(np.float32(value))


def _mean_logprob(piece: Piece) -> float:
    return piece.total_logprob / max(len(piece.token_ids), 1)


def _completion(index: int, piece: Piece, words: Tokenizer) -> pb.Completion:
    return pb.Completion(
        index=index,
        text=piece.text,
        token_ids=piece.token_ids,
        finish_reason=FINISH_REASONS[piece.finish],
        stop_match=_stop_match(piece.stop_match),
        logprobs=_positions(piece.logprobs, words),
        cumulative_logprob=piece.total_logprob,
    )


@dataclass(slots=True)
class Messages:
    """Numbers the messages of one stream and gives the first and the last what only they carry."""

    model: GenerationModel
    job: Job
    stream: TokenStream
    call: RequestContext
    stream_id: str
    sent: int = 0
    ended: int = 0
    tokens: int = 0

    def go_on(self, sent: int, ended: int, tokens: int) -> None:
        """As many messages, ended completions and tokens were told so far, whoever told them."""
        self.sent, self.ended, self.tokens = sent, ended, tokens

    def size(self, piece: Piece) -> int:
        """Work of the next message, in log probabilities; the first one carries the prompt's."""
        return reported(piece.logprobs) if self.sent else size(self.job, [piece])

    def message(self, piece: Piece) -> service_pb.GenerateStreamResponse:
        """The next message."""
        self.sent += 1
        self.tokens += len(piece.token_ids)
        self.ended += piece.finish is not None
        words = self.model.tokenizer
        reply = service_pb.GenerateStreamResponse(
            sequence_number=self.sent,
            index=piece.index,
            text_delta=piece.text,
            token_ids=piece.token_ids,
            logprobs=_positions(piece.logprobs, words),
            finish_reason=FINISH_REASONS[piece.finish],
            stop_match=_stop_match(piece.stop_match),
            cumulative_logprob=_single(piece.total_logprob) if piece.finish else piece.total_logprob,
        )
        if self.sent == 1:
            self._open(reply)
        if self.ended == self.job.draws:
            reply.usage.CopyFrom(_usage(self.job, self.stream, self.tokens))
            reply.timing.CopyFrom(_timing(self.stream, self.call))
        return reply

    def _open(self, reply: service_pb.GenerateStreamResponse) -> None:
        reply.stream_id = self.stream_id
        reply.seed = self.job.request.seed
        reply.prompt_logprobs.extend(_prompt_positions(self.job.request, self.model.tokenizer))
        reply.served_by.CopyFrom(served_by(self.model.manifest, self.model.digest))


def scored(
    model: GenerationModel, asked: Scoring, stream: TokenStream, with_tokens: bool, call: RequestContext
) -> service_pb.ScoreResponse:
    """Log probabilities of the prompt's tokens, and sums over those that count."""
    known = [asked.job.request.prompt_scores[place] for place in sorted(asked.job.request.prompt_scores)]
    counted = known[asked.first - 1 :]
    total = math.fsum(position.chosen.logprob for position in counted)
    return service_pb.ScoreResponse(
        tokens=_positions(known, model.tokenizer) if with_tokens else [],
        total_logprob=total,
        perplexity=math.exp(-total / len(counted)),
        scored_tokens=len(counted),
        served_by=served_by(model.manifest, model.digest),
        timing=_timing(stream, call),
    )


def _usage(job: Job, stream: TokenStream, completion_tokens: int) -> pb.Usage:
    return pb.Usage(
        prompt_tokens=len(job.request.prompt),
        completion_tokens=completion_tokens,
        cached_prompt_tokens=stream.sequences[0].cached_tokens,
    )


def _timing(stream: TokenStream, call: RequestContext) -> served_pb2.Timing:
    busy_ms = call.elapsed_ms() - stream.queue_ms
    return timing(Outcome(None, stream.queue_ms, busy_ms, stream.batch_size))


def _prompt_positions(request: Request, words: Tokenizer) -> Iterator[pb.PositionLogprobs]:
    return _positions([request.prompt_scores[place] for place in sorted(request.prompt_scores)], words)


def _positions(found: Iterable[PositionLogprobs], words: Tokenizer) -> Iterator[pb.PositionLogprobs]:
    """One at a time: a list copied into a message at once would keep the GIL from the event loop."""
    return (
        pb.PositionLogprobs(chosen=_logprob(one.chosen, words), top=[_logprob(other, words) for other in one.top])
        for one in found
    )


def _logprob(one: TokenLogprob, words: Tokenizer) -> pb.TokenLogprob:
    text = words.token_bytes(one.token_id).decode(errors="replace")
    return pb.TokenLogprob(token_id=one.token_id, token=text, logprob=one.logprob, rank=one.rank)


def _stop_match(match: StopMatch | None) -> pb.StopMatch | None:
    if match is None:
        return None
    return pb.StopMatch(text=match.text or "") if match.token_id is None else pb.StopMatch(token_id=match.token_id)
