"""The rest of a broken stream: its sequences as they stood, and what of it is not told yet. Knows no Redis."""

from services.generation.answers import Piece
from services.generation.engine.advance import advance
from services.generation.engine.request import Sequence
from services.generation.job import Job
from services.generation.model import GenerationModel
from services.generation.resume.told import Told
from services.runtime.errors import PreconditionFailed


def base(job: Job, told: Told) -> Told:
    """What generation starts from: all that was told, but a search for whole outputs begins anew."""
    return Told() if job.request.sampling.searches else told


def sequences(job: Job, told: Told, model: GenerationModel) -> list[Sequence]:
    """Those that have not ended, each as if it had been preempted after what was told: its tokens are computed
    again as a prompt is. PreconditionFailed if they end elsewhere than they did."""
    fresh = list(job.sequences(model.tokenizer))
    for sequence in fresh:
        for token in told.tokens.get(sequence.index, ()):
            advance(sequence, token, model.context)
        if bool(sequence.finish) != (sequence.index in told.ended):
            raise PreconditionFailed(
                "resume.stream_id: the recorded tokens end elsewhere here; ask again", reason="MODEL_CHANGED"
            )
    return [sequence for sequence in fresh if not sequence.finish]


class Rest:
    """What was generated on top of `base`. More than that may have been told, or be told by others meanwhile."""

    def __init__(self, base: Told) -> None:
        self._tokens = {index: len(tokens) for index, tokens in base.tokens.items()}
        self._letters = dict(base.letters)
        self._made: dict[int, Piece] = {}

    def take(self, piece: Piece) -> None:
        """More of one completion."""
        made = self._made.setdefault(piece.index, Piece(piece.index))
        made.text += piece.text
        made.token_ids += piece.token_ids
        made.logprobs += piece.logprobs
        made.total_logprob = piece.total_logprob
        made.finish, made.stop_match = piece.finish, piece.stop_match

    def untold(self, index: int, told: Told) -> Piece | None:
        """What `told` lacks of a completion; None if it lacks nothing."""
        made = self._made[index]
        tokens = len(told.tokens.get(index, ())) - self._tokens.get(index, 0)
        letters = told.letters[index] - self._letters.get(index, 0)
        if index in told.ended or (tokens >= len(made.token_ids) and made.finish is None):
            return None
        return Piece(
            index,
            made.text[letters:],
            made.token_ids[tokens:],
            made.logprobs[tokens:],
            made.total_logprob,
            finish=made.finish,
            stop_match=made.stop_match,
        )
