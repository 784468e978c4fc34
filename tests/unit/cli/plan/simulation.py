"""Stations in simulated time, event by event, to hold the formulas of `cli.plan` against. Knows none of them."""

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence

Length = Callable[[int], float]


def arrivals(rate: float, count: int, seed: int) -> list[float]:
    """A Poisson process."""
    draw, now, found = random.Random(seed), 0.0, []
    for _ in range(count):
        now += draw.expovariate(rate)
        found.append(now)
    return found


def batched(comes: Sequence[float], length: Length, most: int) -> tuple[list[float], float]:
    """When each leaves a station that takes all that wait, at most `most`, when it is free; seconds of work."""
    leaves, waiting, free, worked = [0.0] * len(comes), deque[int](), 0.0, 0.0
    order = deque(sorted(range(len(comes)), key=lambda one: comes[one]))
    while order or waiting:
        if not waiting:
            free = max(free, comes[order[0]])
        while order and comes[order[0]] <= free:
            waiting.append(order.popleft())
        batch = [waiting.popleft() for _ in range(min(most, len(waiting)))]
        worked += length(len(batch))
        free += length(len(batch))
        for one in batch:
            leaves[one] = free
    return leaves, worked


def pooled(comes: Sequence[float], length: Length, most: int, replicas: int) -> list[float]:
    """As `batched`, at several of which the one with the fewest calls gets the next."""
    leaves, waiting = [0.0] * len(comes), [deque[int]() for _ in range(replicas)]
    running: list[list[int]] = [[] for _ in range(replicas)]
    ends: list[tuple[float, int]] = []

    def begin(now: float, at: int) -> None:
        running[at] = [waiting[at].popleft() for _ in range(min(most, len(waiting[at])))]
        if running[at]:
            heapq.heappush(ends, (now + length(len(running[at])), at))

    for one, now in enumerate([*comes, float("inf")]):
        while ends and ends[0][0] <= now:
            end, at = heapq.heappop(ends)
            for done in running[at]:
                leaves[done] = end
            begin(end, at)
        if one < len(comes):
            at = min(range(replicas), key=lambda place: len(waiting[place]) + len(running[place]))
            waiting[at].append(one)
            if not running[at]:
                begin(now, at)
    return leaves


def shared(comes: Sequence[float], alone: Length, seed: int) -> list[float]:
    """When each leaves a processor at which n calls together take `alone(n)`; their needs differ, 1 on average."""
    draw, served, now = random.Random(seed), 0.0, 0.0
    present: list[tuple[float, int]] = []
    leaves, coming = [0.0] * len(comes), 0
    while coming < len(comes) or present:
        pace = 1 / alone(len(present)) if present else 0.0
        ends = now + (present[0][0] - served) / pace if present else float("inf")
        if coming < len(comes) and comes[coming] < ends:
            served, now = served + pace * (comes[coming] - now), comes[coming]
            heapq.heappush(present, (served + draw.expovariate(1), coming))
            coming += 1
        else:
            need, one = heapq.heappop(present)
            served, now = need, ends
            leaves[one] = ends
    return leaves
