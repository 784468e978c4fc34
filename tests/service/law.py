"""The batch law: whatever travels together, each item's answer is its lone answer, and errors stay theirs.

Knows no service: a Kind says how items become a call and a reply becomes answers.
"""

import asyncio
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from grpc import StatusCode
from grpc.aio import AioRpcError

STUCK_S = 30.0
REFUSED = {StatusCode.INVALID_ARGUMENT, StatusCode.FAILED_PRECONDITION}
LEFT = {"cancel": StatusCode.CANCELLED, "hurry": StatusCode.DEADLINE_EXCEEDED}


@dataclass(frozen=True, eq=False)
class Kind:
    """`ask(items, timeout)` makes the call, `answers(reply)` gives an array or bytes for each of the items."""

    name: str
    ask: Callable[[Sequence[Any], float], Any]
    answers: Callable[[Any], Sequence[Any]]
    good: Sequence[Any]
    bad: Sequence[Any] = ()
    tolerance: float = 0.0
    most: int = 9


@dataclass
class Court:
    """Random calls of every kind, some of them given up; `endings` by kind, how it was waited for, code."""

    kinds: Sequence[Kind]
    draw: random.Random
    numbered: bool = True  # errors name the item by its number
    endings: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    lone: dict[tuple[str, int], Any] = field(default_factory=dict)

    async def hear(self, calls: int, at_once: int) -> None:
        """First every item alone, then `calls` calls, so many at once. AssertionError for the first broken law."""
        for kind in self.kinds:
            await self._alone(kind)
        left = iter(range(calls))

        async def caller() -> None:
            for _ in left:
                await self._call(self.draw.choice(self.kinds))

        await asyncio.gather(*(caller() for _ in range(at_once)))

    def count(self, how: str, code: str) -> int:
        return sum(count for (_, *ending), count in self.endings.items() if ending == [how, code])

    async def _alone(self, kind: Kind) -> None:
        for index, item in enumerate((*kind.good, *kind.bad)):
            code, found = await _ending(kind.ask([item], STUCK_S))
            if index < len(kind.good):
                assert code is StatusCode.OK, f"{kind.name}: {found}"
                (self.lone[kind.name, index],) = kind.answers(found)
            else:
                assert code in REFUSED, f"{kind.name} took {item!r}"
                self.lone[kind.name, index] = code

    async def _call(self, kind: Kind) -> None:
        draw, good = self.draw, len(kind.good)
        chosen = [draw.randrange(good) for _ in range(draw.randint(1, kind.most))]
        if kind.bad and draw.random() < 0.3:
            for _ in range(draw.choice((1, 2))):
                chosen[draw.randrange(len(chosen))] = good + draw.randrange(len(kind.bad))
        how = draw.choice(("wait", "wait", "wait", "cancel", "hurry"))
        items = [(*kind.good, *kind.bad)[index] for index in chosen]
        call = kind.ask(items, draw.uniform(0.0005, 0.03) if how == "hurry" else STUCK_S)
        if how == "cancel":
            asyncio.get_running_loop().call_later(draw.uniform(0, 0.03), call.cancel)
        code, found = await _ending(call)
        self.endings[kind.name, how, code.name] += 1
        if code is not LEFT.get(how):
            self._judge(kind, chosen, code, found)

    def _judge(self, kind: Kind, chosen: Sequence[int], code: StatusCode, found: Any) -> None:
        bad = {place for place, index in enumerate(chosen) if index >= len(kind.good)}
        if bad:
            assert code in {self.lone[kind.name, chosen[place]] for place in bad}, f"{kind.name}: {code} {found}"
            named = {int(place) for place in re.findall(r"(?:^|; )[a-z_.]+\[(\d+)\]", found)}
            assert not self.numbered or (named and named <= bad), f"{kind.name}: {found} for {sorted(bad)}"
            return
        assert code is StatusCode.OK, f"{kind.name}: {code} {found}"
        for index, answer in zip(chosen, kind.answers(found), strict=True):
            wanted = self.lone[kind.name, index]
            if kind.tolerance:
                np.testing.assert_allclose(answer, wanted, atol=kind.tolerance, err_msg=kind.name)
            else:
                assert np.array_equal(answer, wanted), kind.name


async def _ending(call: Any) -> tuple[StatusCode, Any]:
    """The one ending of a call: its reply, or code and text."""
    try:
        return StatusCode.OK, await call
    except AioRpcError as error:
        return error.code(), error.details() or ""
    except asyncio.CancelledError:
        assert call.cancelled()
        return StatusCode.CANCELLED, ""
