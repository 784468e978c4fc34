"""Makes a method of the synchronous client of each call as a value."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from maas_client.call import Ask

P = ParamSpec("P")
R = TypeVar("R")


class Asker(Protocol):
    """Who sends a call and waits for its answer."""

    def send(self, what: Ask[R], /) -> R: ...


def waited(make: Callable[P, Ask[R]]) -> Callable[Concatenate[Asker, P], R]:
    """The method that sends what `make` makes, with its arguments and its words."""

    @wraps(make)
    def method(self: Asker, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.send(make(*args, **kwargs))

    return method
