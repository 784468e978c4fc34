"""From a place to whoever asks there: one server, the master behind sentinels, or a cluster."""

from collections.abc import Sequence
from typing import Protocol

from services.runtime.redis.cluster import Cluster
from services.runtime.redis.commands import Asked
from services.runtime.redis.dial import Dial
from services.runtime.redis.node import Node
from services.runtime.redis.place import Place
from services.runtime.redis.sentinel import open_master


class Router(Asked, Protocol):
    """Takes a command to the server that it is for."""

    async def nodes(self) -> Sequence[Asked]: ...

    async def close(self) -> None: ...


def open_router(place: Place, connect_s: float, operation_s: float) -> Router:
    """Connects to nothing yet. `connect_s`: longest wait for a connection, `operation_s`: for a reply on it."""
    dial = Dial(place.login, place.tls, connect_s, operation_s)
    if place.kind == "cluster":
        return Cluster(place.addresses, dial.open)
    if place.kind == "sentinel":
        watch = Dial(place.sentinel, place.tls, connect_s, operation_s)
        return Node(lambda: open_master(place.addresses, place.master, watch, dial))
    return Node(lambda: dial.open(place.addresses[0]))
