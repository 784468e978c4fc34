"""Tenants of one priority are served alike, whoever asks more; higher priorities go first."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.generation.engine.blocks import BlockPool
from services.generation.engine.fairness import INPUT_WEIGHT, OUTPUT_WEIGHT, QUANTUM, Shares, Turns
from services.generation.engine.scheduler import Limits, Scheduler
from tests.unit.generation.fakes import one
from tests.unit.generation.world import World


def test_two_requests_do_not_wait_for_two_hundred() -> None:
    world = World(max_sequences=4, max_batch_tokens=16)
    for _ in range(200):
        world.ask("many")
    for _ in range(3):
        world.step()
    few = [world.ask("few") for _ in range(2)]
    world.finish()
    assert max(world.ended.index(sequence) for sequence in few) < 10
    assert len(world.ended) == 202


def test_within_a_tenant_the_order_is_that_of_arrival() -> None:
    world = World(max_sequences=1)
    asked = [world.ask("ab"[place % 2]) for place in range(10)]
    world.finish()
    for tenant in "ab":
        assert [s for s in world.ended if s.request.tenant == tenant] == [
            s for s in asked if s.request.tenant == tenant
        ]
    assert [s.request.tenant for s in world.ended] == list("ab" * 5)


def test_a_long_prompt_leaves_the_others_their_part_of_each_step() -> None:
    world = World(max_batch_tokens=2 * QUANTUM)
    long = world.ask("long", prompt=20 * QUANTUM)
    world.step()
    short = world.ask("short", prompt=QUANTUM)
    step = world.step()
    assert {chunk.sequence: chunk.count for chunk in step.chunks} == {long: QUANTUM, short: QUANTUM}


def test_whoever_is_alone_gets_everything() -> None:
    world = World(max_batch_tokens=3 * QUANTUM)
    long = world.ask("long", prompt=6 * QUANTUM)
    assert [chunk.count for chunk in world.step().chunks] == [3 * QUANTUM]
    assert [chunk.count for chunk in world.step().chunks] == [3 * QUANTUM] and long.output_length == 1


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(8, 200), st.integers(0, 100))
def test_the_services_of_two_who_always_wait_differ_by_a_bounded_amount(
    seed: int, places: int, budget: int, head_start: int
) -> None:
    """Theorem of the paper: at most 2 · max(prompt, weighted tokens that run at once), at any time."""
    draw, longest, most = random.Random(seed), 60, 20
    world = World(max_sequences=places, max_batch_tokens=budget)
    sizes = {"big": (30, longest, most), "small": (1, 10, 5)}

    def keep_waiting(tenant: str) -> None:
        shortest, prompt, says = sizes[tenant]
        while sum(s.request.tenant == tenant for s in world.scheduler.waiting) < 3:
            world.ask(tenant, draw.randint(shortest, prompt), draw.randint(1, says))

    for _ in range(head_start):
        keep_waiting("big")
        world.step()
    start, gaps = Counter(world.paid), []
    for _ in range(300):
        for tenant in sizes:
            keep_waiting(tenant)
        world.step()
        served = world.paid - start
        gaps.append(served["big"] - served["small"])
    bound = 2 * max(INPUT_WEIGHT * longest, OUTPUT_WEIGHT * places * (longest + most))
    assert max(gaps) - min(gaps) <= bound and min((world.paid - start).values()) > 300


def test_who_was_away_has_saved_up_nothing() -> None:
    shares, spender, saver = Shares(), one([1] * 1000, tenant="spender"), one([1], tenant="saver")
    shares.arrive("spender", ())
    shares.admit(spender, 0)
    shares.charge(spender, 1000)
    shares.arrive("saver", ())
    assert shares.of("saver") == shares.of("spender") == 1000
    shares.charge(saver, 1)
    shares.arrive("new", ("spender", "saver"))
    assert shares.of("new") == 1000
    shares.arrive("spender", ("spender",))
    assert shares.of("spender") == 1000


def test_many_tenants_that_left_take_no_memory() -> None:
    world = World()
    for tenant in range(50):
        world.ask(f"tenant {tenant}")
        world.finish()
    assert len(world.scheduler.shares._served) < 5


def test_cached_tokens_and_those_computed_again_are_free() -> None:
    shares, sequence = Shares(), one(list(range(10)), tenant="t")
    shares.admit(sequence, cached=8)
    shares.charge(sequence, 10)
    assert shares.of("t") == 2 * INPUT_WEIGHT
    sequence.tokens += [7, 7]
    shares.charge(sequence, 12)
    assert shares.of("t") == 2 * INPUT_WEIGHT + 2 * OUTPUT_WEIGHT
    shares.admit(sequence, cached=0)
    shares.charge(sequence, 12)
    assert shares.of("t") == 2 * INPUT_WEIGHT + 2 * OUTPUT_WEIGHT


def test_turns_go_by_priority_then_service_then_arrival() -> None:
    shares = Shares()
    asked = [one([1], tenant=t, priority=p) for t, p in (("a", 0), ("a", 0), ("b", 0), ("b", 1), ("a", 1))]
    for arrival, sequence in enumerate(asked):
        sequence.arrival = arrival
    shares.charge(asked[0], 1)
    turns = Turns(shares, sorted(asked, key=lambda s: s.order))
    seen = []
    while turns:
        seen.append(asked.index(turns.next()))
        turns.leave(turns.next())
    assert seen == [3, 4, 2, 0, 1]


def test_a_higher_priority_takes_the_place_of_the_lowest() -> None:
    world = World(max_sequences=2)
    high, low = world.ask("t", priority=1, says=50), world.ask("t", priority=-1, says=50)
    for _ in range(3):
        world.step()
    urgent = world.ask("t", priority=5, says=5)
    world.step()
    assert world.scheduler.running == [urgent, high] and world.scheduler.waiting == [low]
    assert world.scheduler.preemptions == 1
    for _ in range(4):
        world.step()
        assert low in world.scheduler.waiting or urgent in world.ended
    world.finish()
    assert world.scheduler.preemptions == 1 and world.ended == [urgent, high, low]


def test_a_higher_priority_takes_the_blocks_of_as_few_as_it_needs() -> None:
    world = World(num_blocks=13)  # twelve usable
    low = [world.ask("t", prompt=14, says=3, priority=-place) for place in range(3)]
    world.step()
    urgent = world.ask("t", prompt=15, priority=1)
    world.step()
    assert world.scheduler.running == [urgent, *low[:2]] and world.scheduler.preemptions == 1
    world.finish()
    assert len(world.ended) == 4


def test_nobody_is_pushed_out_in_vain() -> None:
    world = World(num_blocks=13)
    keeper = world.ask("t", prompt=20, says=3, priority=9)
    low = world.ask("t", prompt=11, says=3, priority=0)
    world.step()
    big = world.ask("t", prompt=40, priority=5)
    world.step()
    assert world.scheduler.running == [keeper, low] and world.scheduler.waiting == [big]


@pytest.mark.parametrize("priority", [0, 1])
def test_only_the_lower_make_way(priority: int) -> None:
    world = World(max_sequences=1)
    world.ask("first", priority=1, says=30)
    world.step()
    other = world.ask("other", priority=priority)
    for _ in range(5):
        world.step()
    assert other in world.scheduler.waiting and world.scheduler.preemptions == 0


def test_the_preempted_come_back_only_with_room_to_grow() -> None:
    world = World(num_blocks=11)  # ten usable
    first, second = world.ask("t", prompt=19, says=12), world.ask("t", prompt=19, says=12)
    while not world.scheduler.preemptions:
        world.step()
    assert world.scheduler.waiting == [second]
    while first not in world.ended:
        world.step()
    world.finish()
    assert world.scheduler.preemptions == 1


def test_the_urgent_do_not_wait_for_the_computing_of_the_lower() -> None:
    scheduler = Scheduler(BlockPool(100, 4), Limits(max_batch_tokens=8))
    scheduler.add([one(list(range(40)), priority=0)])
    scheduler.schedule()
    scheduler.add([urgent := one(list(range(40)), priority=1)])
    assert scheduler.schedule().chunks[0].sequence is urgent
