"""What is written when, and who waits for it: the writer of one replica, under a clock and a shelf of its own."""

import asyncio
from collections.abc import Sequence

import pytest

from services.runtime.errors import PreconditionFailed
from services.sequence.checkpoints.agenda import Agenda
from services.sequence.checkpoints.keeper import Claimed, Fate, Keeper, Shot
from services.sequence.sessions import End, Key, SessionTable


class Shelf:
    """Says of each shot what `holder` says, once `gate` is open; None, if that is None."""

    def __init__(self) -> None:
        self.broken, self.closed = False, False
        self.gate = asyncio.Event()
        self.gate.set()
        self.written: list[list[Shot[str]]] = []
        self.answers = True
        self.holder: int | None = None

    async def write(self, shots: Sequence[Shot[str]]) -> list[int] | None:
        assert not self.closed
        self.written.append(list(shots))
        await self.gate.wait()
        return [self.holder or shot.generation for shot in shots] if self.answers else None

    async def claim(self, key: Key, generation: int, life_s: float) -> Claimed | None:
        return Claimed(10_000, b"") if generation < 10_000 else Claimed(generation, b"data")

    async def close(self) -> None:
        self.closed = True


class Setup:
    def __init__(self) -> None:
        self.now = 0.0
        self.shelf = Shelf()
        self.table: SessionTable[str] = SessionTable(lambda: self.now, idle_s=600, limit=20_000)
        agenda: Agenda[str] = Agenda(lambda: self.now, every_steps=4, every_s=0.01)
        self.keeper = Keeper(self.table, self.shelf, agenda, 0.2, lambda _: None)


@pytest.fixture
async def setup() -> Setup:
    return Setup()


async def test_savers_share_a_write_and_each_waits_for_its_own_words(setup: Setup) -> None:
    keeper, table = setup.keeper, setup.table
    await keeper.start()
    setup.shelf.gate.clear()
    sessions = [table.open(("", str(n)), "vad", "1", "zero") for n in range(50)]
    first = asyncio.create_task(keeper.save(sessions[0]))
    while not setup.shelf.written:
        await asyncio.sleep(0)
    # Under way is what it was; what it is by now comes with the next write.
    table.commit(sessions[0], "one")
    others = [asyncio.create_task(keeper.save(session)) for session in sessions]
    setup.shelf.gate.set()
    assert await first is Fate.KEPT
    assert set(await asyncio.gather(*others)) == {Fate.KEPT}
    assert [len(shots) for shots in setup.shelf.written] == [1, 50]
    assert (setup.shelf.written[0][0].state, sessions[0].saved_step) == ("zero", 1)
    await keeper.close()


async def test_nobody_waits_longer_than_the_bound_and_what_was_not_written_is_later(setup: Setup) -> None:
    keeper, table = setup.keeper, setup.table
    await keeper.start()
    setup.shelf.gate.clear()
    session = table.open(("", "x"), "vad", "1", "zero")
    async with asyncio.timeout(5):
        assert await keeper.save(session) is Fate.UNKNOWN
    setup.shelf.answers = False
    setup.shelf.gate.set()
    async with asyncio.timeout(5):
        assert await keeper.save(session) is Fate.UNKNOWN
        assert session.saved_step is None
        setup.shelf.broken = True
        assert await keeper.save(session) is Fate.UNKNOWN
        setup.shelf.broken, setup.shelf.answers = False, True
        setup.now += 1
        while session.saved_step is None:
            await asyncio.sleep(0.01)
    await keeper.close()


async def test_a_lost_session_is_over_and_its_generation_remembered(setup: Setup) -> None:
    session = setup.table.open(("", "x"), "vad", "1", "zero")
    setup.shelf.holder = 500
    saving = asyncio.create_task(setup.keeper.save(session))
    await asyncio.sleep(0)
    await setup.keeper.flush()
    assert await saving is Fate.LOST and session.end is End.REPLACED
    assert setup.table.open(("", "x"), "vad", "1", "zero").generation > 500


async def test_a_claim_asks_again_above_what_stands(setup: Setup) -> None:
    claimed = await setup.keeper.claim(("", "x"))
    assert claimed is not None and claimed.generation > 10_000 and claimed.data


async def test_a_claim_that_is_always_outrun_is_refused(setup: Setup) -> None:
    async def outrun(key: Key, generation: int, life_s: float) -> Claimed:
        return Claimed(generation + 5, b"")

    setup.shelf.claim = outrun  # type: ignore[method-assign]
    with pytest.raises(PreconditionFailed, match="resumed elsewhere"):
        await setup.keeper.claim(("", "x"))


async def test_closing_is_told_where_the_session_was_kept(setup: Setup) -> None:
    keeper, table = setup.keeper, setup.table
    kept, never = (table.open(("", name), "vad", "1", "zero") for name in "kn")
    keeper.urge(kept)
    await keeper.flush()
    for session in (kept, never):
        table.close(session)
        keeper.urge(session)
    await keeper.flush()
    assert [(shot.key[1], shot.state) for shot in setup.shelf.written[-1]] == [("k", None)]
    setup.now += 601
    keeper.urge(kept)
    await keeper.flush()
    assert len(setup.shelf.written) == 2


async def test_an_outage_piles_up_nothing_that_is_over(setup: Setup) -> None:
    keeper, table = setup.keeper, setup.table
    setup.shelf.answers, setup.shelf.broken = False, True
    for n in range(5000):
        session = table.open(("", str(n)), "vad", "1", "zero")
        keeper.note(session)
        table.close(session)
    stays = table.open(("", "stays"), "vad", "1", "zero")
    keeper.note(stays)
    setup.now += 1
    for _ in range(5000 // 256 + 1):
        await keeper.flush()
    assert len(setup.keeper._agenda) == 1
    assert [shot.key[1] for shots in setup.shelf.written for shot in shots] == ["stays"]


async def test_a_writer_that_closes_writes_all_first(setup: Setup) -> None:
    keeper, table = setup.keeper, setup.table
    await keeper.start()
    sessions = [table.open(("", str(n)), "vad", "1", "zero") for n in range(600)]
    for session in sessions:
        keeper.note(session)
    await keeper.close()
    assert setup.shelf.closed and all(session.saved_step == 0 for session in sessions)


async def test_settling_tries_again_and_ends_without_hope(setup: Setup) -> None:
    keeper, table, shelf = setup.keeper, setup.table, setup.shelf
    await keeper.start()
    sessions = [table.open(("", str(n)), "vad", "1", "zero") for n in range(600)]
    for session in sessions:
        keeper.note(session)
    shelf.answers = False
    settling = asyncio.create_task(keeper.settle())
    while len(shelf.written) < 3:
        await asyncio.sleep(0.01)
    shelf.answers = True
    await asyncio.wait_for(settling, 5)
    assert all(session.saved_step == 0 for session in sessions)
    keeper.note(sessions[0])
    shelf.answers, shelf.broken = False, True
    await asyncio.wait_for(keeper.settle(), 1)
    await keeper.close()
