"""A vLLM that says what a test tells it: the alphabet, a token at a time, until it is told to die."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field

from services.generation.backends.vllm.client import EngineDied, Order, Output


@dataclass(frozen=True)
class Found:
    logprob: float
    rank: int


SEEN: Mapping[int, Found] = {token: Found(-0.5 * (token - 96), token - 96) for token in range(97, 123)}


@dataclass
class Alphabet:
    """`gate` closed holds every answer back; `gives_up` ends one after so many tokens."""

    gives_up: int = 1000
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    orders: list[Order] = field(default_factory=list)
    left: int = 0  # answers that were closed early
    died: bool = False
    closed: bool = False

    async def generate(self, order: Order) -> AsyncGenerator[Output]:
        self.orders.append(order)
        asked = order.sampling["prompt_logprobs"] is not None
        scores = (None, *(SEEN for _ in order.prompt[1:])) if asked else ()
        for _ in range(20 if asked else 0):
            await asyncio.sleep(0)  # scoring takes its time
        try:
            for place in range(min(order.sampling["max_tokens"], self.gives_up)):
                await self.gate.wait()
                await asyncio.sleep(0)
                if self.died:
                    raise EngineDied
                yield Output([97 + place % 26], [SEEN], () if place else scores, 2, time.monotonic(), 3)
        except GeneratorExit:
            self.left += 1
            raise
        except asyncio.CancelledError:
            self.left += 1
            raise

    def shutdown(self) -> None:
        self.closed = True


def open_gate(**how: int) -> Alphabet:
    made = Alphabet(**how)
    made.gate.set()
    return made
