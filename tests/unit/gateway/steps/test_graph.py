"""Order: every step once, after all it needs and not later than that; rings are found and named."""

import asyncio
from contextlib import aclosing
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.steps.graph import cycle, in_order


@st.composite
def acyclic(draw: st.DrawFn) -> dict[str, list[str]]:
    """Names in a random order, each needing some of those before it in another one."""
    count = draw(st.integers(1, 12))
    names = [f"n{i}" for i in range(count)]
    needs = {
        name: draw(st.lists(st.sampled_from(names[:i]), unique=True)) if i else [] for i, name in enumerate(names)
    }
    return {name: needs[name] for name in draw(st.permutations(names))}


@given(acyclic(), st.randoms(use_true_random=False))
async def test_everything_runs_once_after_what_it_needs_and_as_soon(needs: dict[str, list[str]], random: object):
    assert cycle(needs) == []
    began: list[str] = []
    ended: list[str] = []

    async def work(name: str) -> str:
        began.append(name)
        assert set(needs[name]) <= set(ended)
        for _ in range(random.randrange(4)):  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        ended.append(name)
        return name

    found = [name async for name in in_order(needs, work)]
    assert sorted(found) == sorted(began) == sorted(needs)


async def test_nothing_waits_for_what_it_does_not_need():
    gate, began = asyncio.Event(), asyncio.Event()

    async def work(name: str) -> str:
        if name == "slow":
            await gate.wait()
        if name == "c":
            began.set()
        return name

    needs = {"slow": (), "a": (), "b": ("a",), "c": ("b",), "d": ("slow", "c")}
    async with aclosing(in_order(needs, work)) as ends:
        first = [await anext(ends) for _ in range(3)]
        assert sorted(first) == ["a", "b", "c"] and began.is_set()
        gate.set()
        assert [name async for name in ends] == ["slow", "d"]


async def test_what_can_begin_does_though_nobody_reads():
    began = asyncio.Event()

    async def work(name: str) -> str:
        if name == "b":
            began.set()
        return name

    async with aclosing(in_order({"a": (), "b": ("a",)}, work)) as ends:
        assert await anext(ends) == "a"
        await asyncio.wait_for(began.wait(), 5)


@pytest.mark.parametrize("by", ["leaving", "failing"])
async def test_leaving_early_or_a_failure_cancels_the_rest(by: str):
    cancelled = []

    async def work(name: str) -> str:
        if name == "quick":
            await asyncio.sleep(0)
            if by == "failing":
                raise ValueError
            return name
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(name)
            raise
        return name

    async with aclosing(in_order({"quick": (), "a": (), "b": (), "after": ("a",)}, work)) as ends:
        if by == "failing":
            with pytest.raises(ValueError):
                await anext(ends)
        else:
            assert await anext(ends) == "quick"
    assert sorted(cancelled) == ["a", "b"]


@pytest.mark.parametrize(
    ("needs", "ring"),
    [
        ({"a": ["a"]}, ["a", "a"]),
        ({"a": ["b"], "b": ["a"]}, ["a", "b", "a"]),
        ({"before": ["b"], "b": ["free", "c"], "c": ["d"], "d": ["b"], "free": []}, ["b", "c", "d", "b"]),
        ({"a": [], "b": ["a"], "c": ["a", "b"]}, []),
    ],
)
def test_a_ring_is_named(needs: dict[str, list[str]], ring: list[str]):
    assert cycle(needs) == ring


@given(acyclic(), st.data())
def test_a_ring_that_is_named_is_one(needs: dict[str, list[str]], data: st.DataObject):
    names = sorted(needs)
    more = data.draw(st.lists(st.tuples(st.sampled_from(names), st.sampled_from(names)), max_size=4))
    for name, other in more:
        needs[name] = [*needs[name], other]
    ring = cycle(needs)
    assert all(after in needs[before] for before, after in pairwise(ring))
    assert not ring or ring[0] == ring[-1]
