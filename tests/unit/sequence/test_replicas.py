"""Replicas that share what they keep, in any order of breaks, kills, late answers and older holders' words."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from maas.common.v1 import tensor_pb2
from maas.sequence.v1 import sequence_pb2
from services.runtime.batcher import Outcome
from services.runtime.errors import InvalidInput, PreconditionFailed, Unavailable
from services.sequence.checkpoints.agenda import Agenda
from services.sequence.checkpoints.keeper import Claimed, Keeper, Shot
from services.sequence.checkpoints.memory import Memory, pack
from services.sequence.checkpoints.store import unsure
from services.sequence.loaded import Work, run
from services.sequence.sessions import Key, SessionTable
from services.sequence.stepping import Held, Sessions
from tests.unit.sequence.fakes import SumRunner, sum_net
from tests.unit.sequence.test_stepping import OneModelHost

ANSWERS, DEAF, LATE, MUTE = "answers", "deaf", "late", "mute"
OPEN = sequence_pb2.OpenSession(session_id="x")


class Kept:
    """What all replicas keep: the values of Redis, by the rules of its scripts."""

    def __init__(self) -> None:
        self.values: dict[Key, tuple[int, int, bytes]] = {}
        self.late: list[Callable[[], Any]] = []

    def write(self, shots: Sequence[Shot[Memory]]) -> list[int]:
        return [self._write(shot) for shot in shots]

    def _write(self, shot: Shot[Memory]) -> int:
        generation, step, _ = self.values.get(shot.key, (0, 0, b""))
        if (generation, step) <= (shot.generation, shot.step):
            data = pack(shot.model, shot.version, shot.step, shot.state) if shot.state else b""
            self.values[shot.key] = (shot.generation, shot.step, data)
        return self.values[shot.key][0]

    def claim(self, key: Key, generation: int) -> Claimed | None:
        owner, step, data = self.values.get(key, (0, 0, b""))
        if not data or owner >= generation:
            return Claimed(owner, b"") if data else None
        self.values[key] = (generation, step, data)
        return Claimed(generation, data)


class Link:
    """A replica's way there. Not answering, what is asked is done at once (mute), later (late) or never (deaf)."""

    broken = False

    def __init__(self, kept: Kept) -> None:
        self._kept, self.mode = kept, ANSWERS

    async def write(self, shots: Sequence[Shot[Memory]]) -> list[int] | None:
        return self._asked(lambda: self._kept.write(shots))

    async def claim(self, key: Key, generation: int, life_s: float) -> Claimed | None:
        found = self._asked(lambda: self._kept.claim(key, generation))
        if self.mode != ANSWERS:
            raise unsure(key)
        return found

    async def close(self) -> None:
        pass

    def _asked(self, work: Callable[[], Any]) -> Any:
        if self.mode == LATE:
            self._kept.late.append(work)
        found = work() if self.mode in (ANSWERS, MUTE) else None
        return found if self.mode == ANSWERS else None


class Replica:
    """A process: what it holds is gone with it."""

    def __init__(self, kept: Kept, epoch: Callable[[], int]) -> None:
        self.link = Link(kept)
        table: SessionTable[Memory] = SessionTable(lambda: 0.0, 600, 8, epoch)
        self.keeper = Keeper(table, self.link, Agenda(lambda: 0.0, 4, 0.0), 5.0, lambda _: None)
        self.model: Any = Model()
        host: Any = OneModelHost(self.model)
        self.sessions = Sessions(host, table, asyncio.Event(), self.keeper)
        # Somebody else spoke to a session that this replica may still hold, and that had gone on elsewhere.
        self.tainted = False


class Model:
    """Computes where it is called."""

    net = sum_net(SumRunner())
    manifest = net.manifest

    async def compute(self, work: Work) -> Outcome[list[Any]]:
        ((found,),) = (answers.values for answers in run(self.net, [work]))
        return Outcome([found], 0.0, 0.0, 1)


def step(number: int, value: int) -> sequence_pb2.SessionStep:
    return sequence_pb2.SessionStep(step=number, series=tensor_pb2.Series(values=[value] * 4, features=4))


class Story(RuleBasedStateMachine):
    """A caller who keeps to the contract hears the sums of its values, whatever happens to the replicas."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.ticks = 0
        self.kept = Kept()
        self.replicas = [self._replica() for _ in range(2)]
        self.values: list[int] = []
        self.inputs: dict[int, int] = {}  # what the caller did not forget
        self.heard: set[int] = set()
        self.safe: int | None = None
        self.handle: tuple[Replica, Held] | None = None
        self.next = 1
        self.zombies: list[tuple[Replica, Held]] = []

    def teardown(self) -> None:
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def _replica(self) -> Replica:
        return Replica(self.kept, lambda: self.ticks)

    def _run(self, replica: Replica, work: Coroutine[Any, Any, Any]) -> Any:
        """Its writer takes turns with the work, as in a server."""

        async def go() -> Any:
            task = asyncio.ensure_future(work)
            while not task.done():
                await asyncio.sleep(0)
                await replica.keeper.flush()
            return await task

        self.ticks += 1
        return self.loop.run_until_complete(go())

    @rule(which=st.integers(0, 1))
    def resumes(self, which: int) -> None:
        replica = self.replicas[which]
        if replica.tainted and replica.link.mode != ANSWERS:
            return
        opening = sequence_pb2.OpenSession(session_id="x", resume=self.safe is not None)
        opening.checkpointed_step = self.safe or 0
        before, self.handle = self.handle, None
        try:
            session = self._run(replica, replica.sessions.open(opening))
        except Unavailable:
            assert replica.link.mode != ANSWERS
            return
        assert session.last_step >= (self.safe or 0)
        self._leave(before, replica, session)
        self.handle = (replica, session)
        self._learn(session)
        missing = next(n for n in range(1, len(self.values) + 2) if n not in self.heard)
        self.next = min(missing, session.last_step + 1)

    def _leave(self, before: tuple[Replica, Held] | None, replica: Replica, now: Held) -> None:
        """An older connection is somebody else's from here on, if the session was surely taken from it."""
        if before is not None and before[1] is not now and replica.link.mode == ANSWERS:
            self.zombies.append(before)

    @precondition(lambda self: self.handle)
    @rule(values=st.lists(st.integers(-9, 9), min_size=1, max_size=9), heard=st.booleans())
    def speaks(self, values: list[int], heard: bool) -> None:
        """A stream's steps; the last output may be lost, and the stream with it."""
        for value in values:
            if self.handle is None:
                return
            replica, session = self.handle
            number = self._say(value)
            try:
                asked = step(number, self.inputs[number])
                outcome = self._run(replica, replica.sessions.step(session, replica.model, asked))
            except PreconditionFailed:
                assert session.end is not None
                self.handle = None
                return
            replica.keeper.note(session)
            self._hear(number, outcome.value.item(), session)
            self.next = number + 1
        if not heard:
            self.heard.discard(self.next - 1)
            self.inputs[self.next - 1] = self.values[self.next - 2]
            self.handle = None

    def _say(self, value: int) -> int:
        if self.next > len(self.values):
            self.values.append(value)
            self.inputs[self.next] = value
        return self.next

    def _hear(self, number: int, score: float, session: Held) -> None:
        assert score == 4 * sum(self.values[:number])
        self.heard.add(number)
        self._learn(session)

    def _learn(self, session: Held) -> None:
        if session.saved_step is not None:
            self.safe = max(self.safe or 0, session.saved_step)
        for number in [n for n in self.inputs if n in self.heard and n <= (self.safe or 0)]:
            del self.inputs[number]

    @precondition(lambda self: self.safe is not None)
    @rule(which=st.integers(0, 1), value=st.integers(-9, 9))
    def steps_once(self, which: int, value: int) -> None:
        replica = self.replicas[which]
        if replica.tainted and replica.link.mode != ANSWERS:
            return
        of_the_stream = self.next
        self.next = next(n for n in range(1, len(self.values) + 2) if n not in self.heard)
        last = self._say(value)
        done = None
        while self.next <= last:
            try:
                done = self._run(replica, self._once(replica))
            except Unavailable:
                assert replica.link.mode != ANSWERS
                self.next = of_the_stream
                return
            except InvalidInput as error:
                # Steps of a stream were heard and not kept: they are sent again first.
                due = int(error.message.split()[-1])
                assert (self.safe or 0) < due < self.next
                self.next = due
                continue
            self._hear(self.next, done.outcome.value.item(), done.session)
            self.next += 1
        assert done is not None
        before, self.handle = self.handle, None
        self._leave(before, replica, done.session)
        assert replica.link.mode != ANSWERS or self.safe == done.session.last_step

    async def _once(self, replica: Replica) -> Any:
        session = await replica.sessions.find("x")
        return await replica.sessions.once(session, step(self.next, self.inputs[self.next]))

    @precondition(lambda self: self.zombies)
    @rule(data=st.data(), count=st.integers(1, 5))
    def older_holders_speak(self, data: st.DataObject, count: int) -> None:
        replica, session = data.draw(st.sampled_from(self.zombies))
        replica.tainted = True
        for _ in range(count):
            if session.end is None:
                work = replica.sessions.step(session, replica.model, step(session.last_step + 1, 1000))
                self._run(replica, work)
                replica.keeper.note(session)

    @rule(which=st.integers(0, 1))
    def writes(self, which: int) -> None:
        self._run(self.replicas[which], self.replicas[which].keeper.flush())

    @rule(which=st.integers(0, 1), mode=st.sampled_from([ANSWERS, ANSWERS, DEAF, LATE, MUTE]))
    def links(self, which: int, mode: str) -> None:
        self.replicas[which].link.mode = mode

    @precondition(lambda self: self.kept.late)
    @rule(data=st.data())
    def lands(self, data: st.DataObject) -> None:
        self.kept.late.pop(data.draw(st.integers(0, len(self.kept.late) - 1)))()

    @rule(which=st.integers(0, 1))
    def dies(self, which: int) -> None:
        gone, self.replicas[which] = self.replicas[which], self._replica()
        self.zombies = [one for one in self.zombies if one[0] is not gone]
        if self.handle is not None and self.handle[0] is gone:
            self.handle = None

    @invariant()
    def what_was_told_to_be_kept_is(self) -> None:
        generation, stands, data = self.kept.values.get(("", "x"), (0, 0, b""))
        assert self.safe is None or (stands >= self.safe and data)


TestStory = Story.TestCase
TestStory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
