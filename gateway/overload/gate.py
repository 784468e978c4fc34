"""What a call passes on its way to a service: a place in flight, a short wait for one, or a refusal at once.

Short calls share a limit that follows the service's latency. Long ones (streams, generations, explanations) say
nothing of the load by what they take, and their services queue them well: of these there is a fixed number, which
tenants share as they do a full server.
"""

import asyncio
import time
from collections.abc import Callable
from math import inf, isfinite

from gateway.overload.bounds import Bounds
from gateway.overload.latency import Latencies, Recent
from gateway.overload.limit import DELAY_S, Limit
from gateway.overload.line import Line
from gateway.overload.priority import Priority, lowered, places, priority_of
from gateway.overload.refusals import MOST_RETRY_S, Refusals
from gateway.overload.rules import Rule, Way, way_of
from services.runtime.admission import Admission
from services.runtime.context import RequestContext

# Of what a caller waits for, at most this much is spent in the queue: the rest is for the answer.
WAIT_SHARE = 0.5
LONG_RETRY_S = 1.0
# The least latency of a method is looked for anew this often.
AGE_S = 300.0

Turn = asyncio.Future[None]


class Pass:
    """A call that is inside until the block ends.

    `kind`: what calls like it take, of short calls alone; `tenant`: whose it is, of long ones alone.
    """

    __slots__ = ("_gate", "kind", "tenant", "way")

    def __init__(self, gate: "Gate", way: Way, kind: Recent | None = None, tenant: str = "") -> None:
        self._gate, self.way, self.kind, self.tenant = gate, way, kind, tenant

    def __enter__(self) -> "Pass":
        return self

    def __exit__(self, *error: object) -> None:
        self._gate.leave(self)


class Gate:
    """Of one service, all its replicas together. For one event loop."""

    def __init__(
        self, service: str, bounds: Bounds | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.bounds, self._clock = bounds or Bounds(), clock
        self.limit = Limit(self.bounds.floor, self.bounds.ceiling)
        self.in_flight = 0
        self.refusals = Refusals(service)
        self.hedges = self.hedges_won = self.lowered = 0
        self._line: Line[Turn] = Line()
        self._latencies = Latencies()
        self._ways: dict[str, Way] = {}
        self._turn_at = clock() + AGE_S
        self._long = Admission(self.bounds.most_long, "long calls are under way", clock)
        self._long_places = places(self.bounds.most_long)
        self._places = places(self.limit.calls)

    @property
    def queued(self) -> int:
        return len(self._line)

    @property
    def long(self) -> int:
        return self._long.inside

    async def enter(self, path: str, size: int, context: RequestContext) -> Pass:
        """A place for a call of `size` bytes.

        Raises Overloaded, DeadlinePassed where its time would not suffice, InvalidInput for an unknown class.
        """
        way = self.way(path)
        if way.rule is Rule.FREE:
            return Pass(self, way)
        priority = priority_of(context.metadata)
        if priority is Priority.CRITICAL and lowered(path, context):
            priority, self.lowered = Priority.DEFAULT, self.lowered + 1
        if way.rule is Rule.LONG:
            return self._enter_long(way, priority, context.tenant)
        kind = self.kind(path, size)
        if not self.bounds.shed:
            self.in_flight += 1
        elif self.in_flight < self._places[priority] and not self._line.before(priority):
            self._check_deadline(context, priority, kind.usual(self._clock()))
            self.in_flight += 1
        else:
            await self._wait(context, priority, kind)
        return Pass(self, way, kind)

    def way(self, path: str) -> Way:
        """By which rule calls of a method get in."""
        return self._ways.get(path) or self._ways.setdefault(path, way_of(path))

    def kind(self, path: str, size: int) -> Recent:
        """What calls like this one take."""
        return self._latencies.of(path, size)

    def leave(self, one: Pass) -> None:
        """The call ended."""
        if one.kind is not None:
            self.in_flight -= 1
            self._admit()
        elif one.way.rule is Rule.LONG:
            self._long.give_back(one.tenant, 1)

    @property
    def spare(self) -> bool:
        """Whether there is a place that nobody else wants."""
        return not self.bounds.shed or (not self._line and self.in_flight < self._places[Priority.BATCH])

    def again(self, one: Pass) -> Pass:
        """A place more for a second try of a call."""
        self.in_flight += 1
        return Pass(self, one.way, one.kind)

    def answered(self, one: Pass, seconds: float) -> None:
        """The service answered the call in so long."""
        if one.kind is not None:
            now = self._clock()
            one.kind.add(seconds, now)
            self._learn(one.kind.least, seconds, now)

    def late(self, one: Pass, seconds: float) -> None:
        """No answer came in so long; that tells of the load if it is more than one may take."""
        if one.kind is None:
            return
        # Where nothing was ever answered in time, there is no least: then all of it was waiting.
        least_s = one.kind.least if isfinite(one.kind.least) else 0.0
        if seconds > least_s + DELAY_S:
            self._learn(least_s, seconds, self._clock())

    def shed(self, one: Pass) -> None:
        """The service refused the call for its own load."""
        if one.kind is not None:
            self.limit.shed()

    def _enter_long(self, way: Way, priority: Priority, tenant: str) -> Pass:
        if self.bounds.shed and (full := self._long.full(tenant, 1, self._long_places[priority])) is not None:
            raise self.refusals.overloaded(priority, full.why, LONG_RETRY_S)
        self._long.hold(tenant, 1)
        return Pass(self, way, tenant=tenant)

    async def _wait(self, context: RequestContext, priority: Priority, kind: Recent) -> None:
        now = self._clock()
        # Its turn must come by then: an answer after the deadline is work for nobody.
        due = None if context.deadline is None else context.deadline - kind.tail(now)
        wait_s = self._expected_s(self._line.ahead(priority, context.tenant, due))
        left_s = self._check_deadline(context, priority, wait_s + kind.usual(now))
        if wait_s > min(self.bounds.queue_wait_s, WAIT_SHARE * left_s):
            raise self.refusals.overloaded(priority, f"a place is expected in {wait_s:.2f} s", wait_s)
        turn: Turn = asyncio.get_running_loop().create_future()
        one = self._line.join(turn, priority, context.tenant, due)
        self._shorten()
        try:
            await turn
        except asyncio.CancelledError:
            self._line.leave(one)
            if not turn.cancelled() and turn.exception() is None:
                # Admitted and cancelled in the same moment.
                self.in_flight -= 1
                self._admit()
            raise

    def _check_deadline(self, context: RequestContext, priority: Priority, needed_s: float) -> float:
        """The seconds left. Raises DeadlinePassed if they are not as many as needed."""
        left_s = context.remaining_s()
        if left_s is None:
            return inf
        if left_s < needed_s:
            raise self.refusals.out_of_time(
                priority, f"{1000 * needed_s:.0f} ms are needed, {1000 * left_s:.0f} ms are left"
            )
        return left_s

    def _expected_s(self, ahead: int) -> float:
        """Until whom so many come before finds a place: they come free as fast as calls end (Little's law)."""
        return (ahead + 1) * self.limit.mean_s(self._clock()) / max(1, self.in_flight)

    def _admit(self) -> None:
        """Those whose turn it is, as far as there are places: where the first finds none, nobody does."""
        while (one := self._line.first()) is not None and self.in_flight < self._places[one.priority]:
            self._line.take(one)
            if one.what.done():
                continue
            if self._clock() >= one.deadline:
                one.what.set_exception(self.refusals.out_of_time(one.priority, "too little is left after waiting"))
            else:
                self.in_flight += 1
                one.what.set_result(None)

    def _shorten(self) -> None:
        """Gives up the last of a line that is too long, maybe the one that just came."""
        if len(self._line) > self.bounds.ceiling and (last := self._line.last()) is not None:
            self._line.leave(last)
            if not last.what.done():
                error = self.refusals.overloaded(last.priority, f"{len(self._line)} calls wait", MOST_RETRY_S)
                last.what.set_exception(error)

    def _learn(self, least_s: float, seconds: float, now: float) -> None:
        if not self.limit.took(seconds, least_s, self.in_flight, now):
            return
        if now >= self._turn_at:
            self._turn_at = now + AGE_S
            self._latencies.turn()
            self.limit.collapse()
        self._places = places(self.limit.calls)
        self._admit()
