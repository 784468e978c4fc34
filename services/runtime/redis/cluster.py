"""A Redis Cluster: which node holds a key, learnt from any of them and corrected by what they say.

Masters alone are asked. Knows no meaning of a key.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from redis.crc import key_slot

from services.runtime.breaker import Breaker
from services.runtime.redis.dial import refused
from services.runtime.redis.line import Line, Word
from services.runtime.redis.node import Node
from services.runtime.redis.place import Address

SLOTS = 16_384
# A node says where the key is, that one may say it moved again; at last whoever asks is told: no answer.
REDIRECTS = 3
# Of one node: while it hangs, the keys of the others are still worth asking for.
FAULTS, OPEN_S = 5, 1.0
# A map that led to a dead node is learnt anew, but not by every call meanwhile.
LEARN_EVERY_S = 0.1

Open = Callable[[Address], Coroutine[Any, Any, Line]]


class Cluster:
    """Asks the node that holds the key, the first one of a command's."""

    def __init__(self, seeds: Sequence[Address], open_line: Open) -> None:
        self._seeds, self._open = seeds, open_line
        self._nodes: dict[Address, Node] = {}
        self._breakers: dict[Address, Breaker] = {}
        self._owners: list[Address | None] = []
        self._learning: asyncio.Task[None] | None = None
        self._learnt_at = 0.0

    async def ask(self, *words: Word) -> Any:
        """The reply; a server's error is a value. Raises as a node does, or ConnectionError: no node is known."""
        slot = _slot(words)
        if not self._owners:
            await self._learn()
        reply = await self._first(self._owner(slot), words)
        for _ in range(REDIRECTS):
            if not refused(reply, "MOVED", "ASK"):
                break
            reply = await self._redirected(str(reply), slot, words)
        return reply

    async def nodes(self) -> Sequence[Node]:
        """All that hold keys, as far as is known now."""
        await self._learn()
        return [self._node(address) for address in dict.fromkeys(one for one in self._owners if one)]

    async def close(self) -> None:
        if self._learning is not None:
            self._learning.cancel()
            await asyncio.wait({self._learning})
        for node in self._nodes.values():
            await node.close()

    async def _first(self, address: Address, words: tuple[Word, ...]) -> Any:
        breaker = self._breakers.setdefault(address, Breaker(FAULTS, OPEN_S))
        if not breaker.allow():
            raise ConnectionError("the node of this key did not answer")
        try:
            reply = await self._node(address).ask(*words)
        except (OSError, TimeoutError):
            breaker.fault()
            self._doubt()
            raise
        breaker.success()
        if refused(reply, "CLUSTERDOWN", "READONLY"):
            self._doubt()
        return reply

    async def _redirected(self, said: str, slot: int, words: tuple[Word, ...]) -> Any:
        """`said`: MOVED or ASK, the slot, host:port."""
        kind, _, where = said.split()[:3]
        host, _, port = where.rpartition(":")
        address = Address(host or self._owner(slot).host, int(port))
        if kind == "ASK":
            return await self._node(address).follow(("ASKING",), words)
        self._owners[slot] = address
        self._doubt()
        return await self._node(address).ask(*words)

    def _owner(self, slot: int) -> Address:
        address = self._owners[slot] if self._owners else None
        if address is None:
            raise ConnectionError("no node of the cluster holds the key")
        return address

    def _node(self, address: Address) -> Node:
        if address not in self._nodes:
            self._nodes[address] = Node(lambda: self._open(address))
        return self._nodes[address]

    def _doubt(self) -> None:
        """Learns the map anew, while others go on with the old one."""
        now = asyncio.get_running_loop().time()
        if self._learning is None and now - self._learnt_at > LEARN_EVERY_S:
            self._begin()

    async def _learn(self) -> None:
        learning = self._learning or self._begin()
        await asyncio.wait({learning})
        if not self._owners:
            raise ConnectionError("no node of the cluster tells its map")

    def _begin(self) -> "asyncio.Task[None]":
        self._learning = learning = asyncio.create_task(self._look())
        learning.add_done_callback(self._learnt)
        return learning

    def _learnt(self, learning: "asyncio.Task[None]") -> None:
        self._learning = None
        self._learnt_at = asyncio.get_running_loop().time()
        if not learning.cancelled():
            learning.exception()

    async def _look(self) -> None:
        """Asks one after another, those who held keys first."""
        for address in dict.fromkeys((*filter(None, dict.fromkeys(self._owners)), *self._seeds)):
            try:
                found = await self._node(address).ask("CLUSTER", "SLOTS")
                self._owners = _owners(found, address.host)
            except Exception:  # nosec B112
                # Whatever ails it, the next may know.
                continue
            await self._part()
            return

    async def _part(self) -> None:
        """From nodes that hold no keys any more."""
        for address in self._nodes.keys() - set(self._owners):
            self._breakers.pop(address, None)
            await self._nodes.pop(address).close()


def _owners(found: Any, told_by: str) -> list[Address | None]:
    """CLUSTER SLOTS → the master of each slot. A node that does not know its own name is where it was asked."""
    owners: list[Address | None] = [None] * SLOTS
    for first, last, (host, port, *_), *_ in found:
        owners[first : last + 1] = [Address(host.decode() if host else told_by, port)] * (last - first + 1)
    return owners


def _slot(words: tuple[Word, ...]) -> int:
    """Of the first key: EVAL's stands behind the script and the number of keys."""
    key = words[3] if words[0] in ("EVAL", "EVALSHA") else words[1]
    return int(key_slot(key if isinstance(key, bytes) else str(key).encode()))
