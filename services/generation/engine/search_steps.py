"""Beam searches in the engine: rows → offers → steps → blocks handed on → endings. Knows no net and no order."""

from dataclasses import dataclass

from services.generation.engine import sampler
from services.generation.engine.beams import Beam, BeamSearch
from services.generation.engine.output import Delta
from services.generation.engine.request import Sequence
from services.generation.engine.row import Row
from services.generation.engine.runner import Runner
from services.generation.engine.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class Place:
    """Where a search runs, and how many others the pass computed."""

    scheduler: Scheduler
    runner: Runner
    context: int
    batch_size: int


def started(sequences: list[Sequence]) -> list[Sequence]:
    """What of a request's sequences is to be computed: all, or the first beam of a search for them."""
    if not sequences[0].request.sampling.searches:
        return sequences
    return [beam.sequence for beam in BeamSearch(sequences).live]


def advanced(beam: Beam, row: Row, place: Place) -> list[Delta]:
    """Takes the beam's row; once every beam has its own, all go on by a token. Nothing is told before the end."""
    search = beam.search
    if search.over:
        return []
    beam.offer = sampler.offer(row, beam.sequence, search.offered)
    if not search.ready:
        return []
    families = search.step(place.context)
    if search.done:
        deltas = [_told(output, best, place) for output, best in zip(search.outputs, search.best(), strict=True)]
        _end(search, place.scheduler)
        return deltas
    for parent, children in families:
        for block, its_copy in place.scheduler.replace(parent, children):
            place.runner.copy_block(block, its_copy)
    return []


def _told(output: Sequence, best: Beam, place: Place) -> Delta:
    """A whole output at once."""
    output.finish, output.stop_match = best.sequence.finish, best.sequence.stop_match
    return Delta(
        output,
        text=best.text,
        token_ids=tuple(best.sequence.tokens[len(output.request.prompt) :]),
        logprob=best.logprob,
        logprobs=best.reports,
        finish=output.finish,
        batch_size=place.batch_size,
    )


def dropped(sequence: Sequence, error: Exception, scheduler: Scheduler) -> list[Delta]:
    """The end of a sequence, or of the whole search it is a beam of; nothing if that has ended."""
    if sequence.beam is None:
        scheduler.remove(sequence)
        return [Delta(sequence, error=error)]
    search = sequence.beam.search
    if search.over:
        return []
    _end(search, scheduler)
    return [Delta(output, error=error) for output in search.outputs]


def _end(search: BeamSearch, scheduler: Scheduler) -> None:
    search.over = True
    request = search.outputs[0].request
    for sequence in [one for one in scheduler.sequences() if one.request is request]:
        scheduler.remove(sequence)
