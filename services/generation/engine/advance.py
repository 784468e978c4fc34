"""What a chosen token does to its sequence: text, stop rules, end. No torch."""

from services.generation.engine.output import FinishReason, StopMatch
from services.generation.engine.request import Sequence


def advance(sequence: Sequence, token: int, context: int) -> str:
    """Take `token`; returns the text it makes certain and sets `finish` and `stop_match` if it ends the sequence.

    `context`: most tokens, prompt included, that the model can hold.
    """
    stopping = sequence.request.stopping
    sequence.append(token)
    _judge_token(sequence, token)
    if sequence.finish and not (sequence.stop_match and stopping.include_stop):
        return _flush(sequence)
    text, match = sequence.text.push(token)
    if match:
        _stop(sequence, StopMatch(text=match))
        return text
    if not sequence.finish:
        sequence.finish = _spent(sequence, context)
    return text + _flush(sequence) if sequence.finish else text


def _spent(sequence: Sequence, context: int) -> FinishReason | None:
    """Why nothing more may come, if so. A complete text needs no end token, which may be held off or unknown."""
    if sequence.constraint and sequence.constraint.finished:
        return FinishReason.STOP
    full = sequence.output_length >= sequence.request.stopping.max_tokens or len(sequence.tokens) >= context
    return FinishReason.LENGTH if full else None


def _judge_token(sequence: Sequence, token: int) -> None:
    stopping = sequence.request.stopping
    if token in stopping.eos_token_ids:
        sequence.finish = FinishReason.EOS
    elif token in stopping.stop_token_ids:
        _stop(sequence, StopMatch(token_id=token))


def _stop(sequence: Sequence, match: StopMatch) -> None:
    sequence.finish, sequence.stop_match = FinishReason.STOP, match


def _flush(sequence: Sequence) -> str:
    """Text kept back until the end; even there a stop string may show up."""
    text, match = sequence.text.flush()
    if match:
        _stop(sequence, StopMatch(text=match))
    return text
