"""KV blocks by number: who holds them, which can be found again by content, which go next. No torch."""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence

NULL_BLOCK = 0  # never handed out: padding rows write there


class BlockPool:
    """Each block but NULL_BLOCK is held (references > 0), cached (0, findable by hash) or blank (0, no name).

    Cached blocks go back to use in the order in which they were let go.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._references = [0] * num_blocks
        self._blank = list(range(num_blocks - 1, NULL_BLOCK, -1))
        self._cached: OrderedDict[int, None] = OrderedDict()
        self._hash_of: dict[int, bytes] = {}
        self._block_of: dict[bytes, int] = {}

    @property
    def available(self) -> int:
        """Blocks that `allocate` could hand out now."""
        return len(self._blank) + len(self._cached)

    @property
    def usable(self) -> int:
        """Blocks that exist for sequences."""
        return self.num_blocks - 1

    def gains(self, tables: Iterable[Sequence[int]]) -> Iterator[int]:
        """Blocks that would be available after releasing none, one, two … of these tables."""
        released, available = Counter[int](), self.available
        yield available
        for table in tables:
            for block in table:
                released[block] += 1
                available += released[block] == self._references[block]
            yield available

    def counts(self) -> dict[str, int]:
        """Usable blocks by state: held, cached, blank."""
        cached, blank = len(self._cached), len(self._blank)
        return {"held": self.usable - cached - blank, "cached": cached, "blank": blank}

    def blocks_for(self, tokens: int) -> int:
        """Blocks that hold so many tokens."""
        return -(-tokens // self.block_size)

    def allocate(self, count: int) -> list[int]:
        """`count` ≤ `available` blocks of undefined content, each with one reference."""
        return [self._take() for _ in range(count)]

    def _take(self) -> int:
        block = self._blank.pop() if self._blank else self._evict()
        self._references[block] = 1
        return block

    def _evict(self) -> int:
        block, _ = self._cached.popitem(last=False)
        del self._block_of[self._hash_of.pop(block)]
        return block

    def match(self, hashes: Iterable[bytes]) -> list[int]:
        """The blocks of the longest known prefix of `hashes`; takes no reference."""
        found = []
        for name in hashes:
            if name not in self._block_of:
                break
            found.append(self._block_of[name])
        return found

    def share(self, blocks: Iterable[int]) -> None:
        """One more reference to each of these held or cached blocks."""
        for block in blocks:
            self._cached.pop(block, None)
            self._references[block] += 1

    def publish(self, block: int, name: bytes) -> None:
        """The held `block` is full and computed: let others find it. The first block of a name keeps it."""
        if name not in self._block_of and block not in self._hash_of:
            self._block_of[name] = block
            self._hash_of[block] = name

    def release(self, blocks: Sequence[int]) -> None:
        """One reference less to each; the last of a chain becomes reusable first."""
        for block in reversed(blocks):
            self._references[block] -= 1
            if self._references[block] == 0:
                self._retire(block)

    def _retire(self, block: int) -> None:
        if block in self._hash_of:
            self._cached[block] = None
        else:
            self._blank.append(block)

    def forget(self) -> None:
        """Drop every cached name, as after a change of weights; held blocks stay held."""
        self._blank.extend(self._cached)
        self._cached.clear()
        self._hash_of.clear()
        self._block_of.clear()

    def check_integrity(self, tables: Iterable[Sequence[int]]) -> None:
        """AssertionError unless held + cached + blank = usable and references equal the `tables`."""
        held = Counter(block for table in tables for block in table)
        assert NULL_BLOCK not in held, "the null block is in a table"
        assert {b: n for b, n in enumerate(self._references) if n} == dict(held), "references ≠ tables"
        free = [*self._blank, *self._cached]
        assert len(set(free)) == len(free), "a block is free twice"
        assert set(free).isdisjoint(held) and len(free) + len(held) == self.usable, "blocks lost or shared"
        assert {self._block_of[name]: name for name in self._block_of} == self._hash_of, "index out of step"
        assert set(self._cached) <= self._hash_of.keys() and not set(self._blank) & self._hash_of.keys()
