"""Requests known by their bytes: what was answered from memory before need not be read again. Pure, one loop."""

from collections import OrderedDict
from typing import Generic, NamedTuple, TypeVar

from blake3 import blake3

from gateway.versions import ModelIndex

T = TypeVar("T")

PLACES = 16 * 1024
# Longer ones are hashed on another thread, and so read.
LARGE_BYTES = 1024 * 1024


class Wire(NamedTuple):
    """Stands for the bytes of a tenant's request to a method: 256 bits, collision resistant."""

    method: str
    tenant: str
    hash: bytes


def wire(method: str, tenant: str, data: bytes) -> Wire | None:
    """None for a request that is too large to be hashed while others wait."""
    return Wire(method, tenant, blake3(data).digest()) if len(data) <= LARGE_BYTES else None


class Recall(Generic[T]):
    """Which cached answer the bytes mean, until any model changes: names and labels may then mean another."""

    def __init__(self, index: ModelIndex, places: int = PLACES) -> None:
        self._index, self._places = index, places
        self._keys: OrderedDict[Wire, T] = OrderedDict()
        self._epoch = index.epoch

    def key(self, asked: Wire) -> T | None:
        """The answer's key, or what else was learnt for the very same request."""
        self._keep_up()
        return self._keys.get(asked)

    def learn(self, asked: Wire, key: T) -> None:
        """Remembers what `asked` means; the first learnt is forgotten when there are too many."""
        self._keep_up()
        self._keys[asked] = key
        if len(self._keys) > self._places:
            self._keys.popitem(last=False)

    def _keep_up(self) -> None:
        if self._epoch != self._index.epoch:
            self._keys.clear()
            self._epoch = self._index.epoch
