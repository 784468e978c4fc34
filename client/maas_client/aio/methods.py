"""Makes a method of the asynchronous client of each call as a value."""

from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from maas_client.call import Ask

P = ParamSpec("P")
R = TypeVar("R")


class Asker(Protocol):
    """Who sends a call and waits for its answer."""

    def send(self, what: Ask[R], /) -> Awaitable[R]: ...


def awaited(make: Callable[P, Ask[R]]) -> Callable[Concatenate[Asker, P], Coroutine[Any, Any, R]]:
    """The method that sends what `make` makes, with its arguments and its words."""

    @wraps(make)
    async def method(self: Asker, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self.send(make(*args, **kwargs))

    return method
