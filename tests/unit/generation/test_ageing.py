"""Low priorities wait, but not without end; who has risen is served once, in peace."""

from tests.unit.generation.world import World

STEP_S = 5.0
HIGH = 3


def busy(**limits: float) -> World:
    """Two places, kept taken by two requests of high priority; two more wait whatever happens."""
    world = World(max_sequences=2, priority_step_s=STEP_S, **limits)
    pressed(world, 2)
    return world


def pressed(world: World, steps: int) -> None:
    """Passes, with four high requests there at the beginning of each."""
    for _ in range(steps):
        there = sum(one.request.priority == HIGH for one in world.scheduler.sequences())
        for _ in range(4 - there):
            world.ask("high", priority=HIGH)
        world.step()


def test_a_low_one_is_served_behind_an_endless_stream_of_high_ones() -> None:
    world = busy()
    low = world.ask("low", priority=0)
    pressed(world, HIGH * int(STEP_S))
    assert low in world.scheduler.waiting, "it rose faster than one priority a period"
    pressed(world, 3 * int(STEP_S))
    assert low in world.ended
    assert world.scheduler.preemptions == 0


def test_of_a_long_queue_one_rises_at_a_time() -> None:
    world = busy()
    queue = [world.ask("low", priority=0) for _ in range(20)]
    for _ in range(100):
        pressed(world, 1)
        assert sum(one in world.scheduler.running for one in queue) <= 1
    ended = [one for one in world.ended if one.request.priority == 0]
    assert ended == queue[: len(ended)] and 3 <= len(ended) <= 6


def test_tenants_of_the_low_share_what_rises() -> None:
    world = busy()
    for _ in range(10):
        world.ask("many", priority=0)
    few = world.ask("few", priority=0)
    pressed(world, 12 * int(STEP_S))
    ended = [one for one in world.ended if one.request.priority == 0]
    assert few in ended[:2]


def test_who_has_risen_stays_and_pushes_nobody_out() -> None:
    """A low one that runs is pushed out once, comes back by age, and then is not pushed out again."""
    world = World(max_sequences=2, priority_step_s=STEP_S)
    low = [world.ask("low", says=30, priority=place) for place in (0, 1)]
    world.step()
    pressed(world, 12 * int(STEP_S) + 60)
    assert all(one in world.ended for one in low)
    assert world.scheduler.preemptions == 2


def test_a_prompt_that_never_gets_its_turn_in_the_budget_rises() -> None:
    world = World(max_sequences=50, max_batch_tokens=16, priority_step_s=STEP_S)
    low = world.ask("low", prompt=60, priority=0)
    world.step()
    assert low in world.scheduler.running and low.computed < 60
    stood = low.computed
    for _ in range(HIGH * int(STEP_S)):
        world.ask("high", prompt=32, priority=HIGH)
        world.step()
    assert low.computed == stood
    for _ in range(3 * int(STEP_S)):
        world.ask("high", prompt=32, priority=HIGH)
        world.step()
    assert low in world.ended


def test_the_sequences_of_a_request_rise_together() -> None:
    world = busy()
    family = world.ask_all(3, "low", priority=0)
    pressed(world, 3 * int(STEP_S))
    assert {one.priority for one in family} in ({1}, {2})
    pressed(world, 7 * int(STEP_S))
    assert all(one in world.ended for one in family)


def test_nobody_rises_above_the_highest_there() -> None:
    """However long it takes until a place is free."""
    world = World(max_sequences=1, priority_step_s=STEP_S)
    high = world.ask("high", says=100, priority=HIGH)
    low = world.ask("low", priority=0)
    for _ in range(90):
        world.step()
    assert low.priority == HIGH and world.scheduler.running == [high]


def test_time_alone_is_no_hunger() -> None:
    """An idle hour between two requests of a priority raises neither."""
    world = busy()
    world.ask("low", priority=0)
    pressed(world, 7 * int(STEP_S))
    world.finish()
    world.now += 3600
    late = world.ask("low", priority=0)
    pressed(world, int(STEP_S) - 1)
    assert late.priority == 0
