"""Beam search: which continuations of a request live on, which are kept, when it is over. No torch, no blocks.

As `transformers` does it without early stopping (Sutskever et al. 2014; length penalty of Wu et al. 2016).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import merge
from itertools import islice

from services.generation.engine.advance import advance
from services.generation.engine.output import PositionLogprobs
from services.generation.engine.request import NO_TOKEN_LEFT
from services.generation.engine.request import Sequence as EngineSequence
from services.runtime.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Offer:
    """A beam's possible next tokens, likeliest first. scores: natural log probabilities after the request's
    changes; logprobs: those of the model's own distribution; report: these in full, where they are wanted.
    """

    token_ids: Sequence[int] = ()
    scores: Sequence[float] = ()
    logprobs: Sequence[float] = ()
    report: Callable[[int], PositionLogprobs] | None = None


@dataclass(slots=True, eq=False)
class Beam:
    """One continuation: the sums of its scores and of its log probabilities, its text, its offer once computed."""

    search: "BeamSearch"
    sequence: EngineSequence
    score: float = 0.0
    logprob: float = 0.0
    text: str = ""
    reports: tuple[PositionLogprobs, ...] = ()
    offer: Offer | None = None

    def candidates(self, place: int) -> Iterator[tuple[float, int, int]]:
        """(minus the score of beam and token, place, rank in the offer), likeliest first."""
        scores = self.offer.scores if self.offer else ()
        return ((-self.score - score, place, rank) for rank, score in enumerate(scores))

    def grown(self, rank: int, context: int) -> "Beam":
        """The beam that takes the token at `rank` of the offer, which may end it."""
        assert self.offer is not None
        token, sequence = self.offer.token_ids[rank], self.sequence.fork()
        sequence.beam = child = Beam(
            search=self.search,
            sequence=sequence,
            score=self.score + self.offer.scores[rank],
            logprob=self.logprob + self.offer.logprobs[rank],
            text=self.text + advance(sequence, token, context),
            reports=self.reports + ((self.offer.report(token),) if self.offer.report else ()),
        )
        return child


@dataclass(frozen=True, slots=True)
class Ended:
    """A whole output and its score by length."""

    score: float
    beam: Beam


@dataclass(slots=True, eq=False)
class BeamSearch:
    """The search for one request. `outputs`: the sequences its caller follows; the first is also the first beam.

    All live beams are of one length. `kept`: the best ended ones, best first, at most as many as beams.
    over: whether its end, good or bad, was told.
    """

    outputs: Sequence[EngineSequence]
    live: list[Beam] = field(default_factory=list)
    kept: list[Ended] = field(default_factory=list)
    over: bool = False

    def __post_init__(self) -> None:
        root = self.outputs[0]
        root.beam = Beam(self, root)
        self.live.append(root.beam)

    @property
    def width(self) -> int:
        return self.outputs[0].request.sampling.num_beams

    @property
    def offered(self) -> int:
        """Tokens of one beam that may matter: besides `width` that live on, those that end it."""
        ends = self.outputs[0].request.stopping.end_token_ids
        return self.width + max(self.width, len(ends))

    @property
    def ready(self) -> bool:
        """Whether every live beam has its offer."""
        return all(beam.offer is not None for beam in self.live)

    def step(self, context: int) -> list[tuple[EngineSequence, list[EngineSequence]]]:
        """One token further: each beam's sequence with those that go on from it, beams that end here first.

        Only the `width` best candidates may end as outputs; any may live on.
        """
        parents, self.live = self.live, []
        children: list[list[EngineSequence]] = [[] for _ in parents]
        offered = merge(*(beam.candidates(place) for place, beam in enumerate(parents)))
        for order, (_, place, rank) in enumerate(islice(offered, self._reach(parents[0].sequence, context))):
            if order >= self.width <= len(self.live):
                break
            child = parents[place].grown(rank, context)
            if child.sequence.finish is None:
                child.sequence.index = len(self.live)
                self.live.append(child)
                children[place].append(child.sequence)
            elif order < self.width:
                self._keep(child)
        families = [(parent.sequence, heirs) for parent, heirs in zip(parents, children, strict=True)]
        return sorted(families, key=lambda family: bool(family[1]))

    def _reach(self, parent: EngineSequence, context: int) -> int:
        """Candidates to look at: each beam's end tokens may stand before `width` others, unless all end here."""
        stopping = parent.request.stopping
        last = parent.output_length + 1 >= stopping.max_tokens or len(parent.tokens) + 1 >= context
        return self.width if last else self.width * max(2, 1 + len(stopping.end_token_ids))

    def _keep(self, beam: Beam) -> None:
        self.kept.append(Ended(self._by_length(beam), beam))
        self.kept = sorted(self.kept, key=lambda ended: -ended.score)[: self.width]

    def _by_length(self, beam: Beam) -> float:
        penalty = float(beam.sequence.request.sampling.length_penalty)
        return float(beam.score / beam.sequence.output_length**penalty)

    @property
    def done(self) -> bool:
        """Whether no live beam is better, at its present length, than the worst of a full set of kept ones."""
        full = len(self.kept) == self.width
        return not self.live or (full and self._by_length(self.live[0]) <= self.kept[-1].score)

    def best(self) -> list[Beam]:
        """Once it is done, one for each of `outputs`, best first. InvalidInput if there are not so many."""
        self._check_enough()
        return [ended.beam for ended in self.kept[: len(self.outputs)]]

    def _check_enough(self) -> None:
        found, wanted = len(self.kept), len(self.outputs)
        if not found:
            raise InvalidInput("sampling", NO_TOKEN_LEFT)
        if found < wanted:
            raise InvalidInput("sampling.n", f"is {wanted}, but only {found} different outputs exist; lower it")
