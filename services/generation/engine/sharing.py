"""What sequences give each other of common prefixes: blocks that are computed, or will be. Knows no queue."""

from services.generation.engine import prefix
from services.generation.engine.blocks import BlockPool
from services.generation.engine.request import Sequence


class Sharing:
    """A block's name belongs to the running sequence that computes it, then to the pool."""

    def __init__(self, pool: BlockPool) -> None:
        self._pool = pool
        self._computing: dict[bytes, Sequence] = {}  # block name → the running sequence that will publish it

    def hold(self, sequence: Sequence) -> list[int]:
        """The blocks that others have computed for it, each with one more reference."""
        shared = [] if sequence.scores_prompt else self._pool.match(self._shareable(sequence))
        self._pool.share(shared)
        return shared

    def leader(self, sequence: Sequence) -> Sequence | None:
        """Who computes the first block that the sequence cannot have yet."""
        names = self._shareable(sequence)
        found = len(self._pool.match(names))
        return self._computing.get(names[found]) if found < len(names) else None

    def uncomputed(self, sequence: Sequence) -> int:
        """Tokens of a waiting sequence that nobody has computed or is computing, so that it must itself."""
        names = [] if sequence.scores_prompt else self._shareable(sequence)
        found = sum(name in self._computing or bool(self._pool.match([name])) for name in names)
        return len(sequence.tokens) - found * self._pool.block_size

    def announce(self, sequence: Sequence) -> None:
        """It starts to run: others may wait for the full blocks that it has not computed yet."""
        self._name_blocks(sequence, len(sequence.tokens) // self._pool.block_size)
        for name in sequence.hashes[sequence.computed // self._pool.block_size :]:
            self._computing.setdefault(name, sequence)

    def publish(self, sequence: Sequence, computed: int) -> None:
        """The keys and values of so many tokens are in its blocks now: let others find those that are full."""
        before, after = (edge // self._pool.block_size for edge in (sequence.computed, computed))
        sequence.computed = computed
        self._name_blocks(sequence, after)
        for place in range(before, after):
            self._pool.publish(sequence.blocks[place], sequence.hashes[place])
            self._withdraw(sequence, sequence.hashes[place])

    def release(self, sequence: Sequence) -> None:
        """It runs no more: its blocks are free, and nobody waits for what it has not computed."""
        for name in sequence.hashes:
            self._withdraw(sequence, name)
        self._pool.release(sequence.blocks)
        sequence.blocks, sequence.computed = [], 0

    def check_integrity(self, running: list[Sequence]) -> None:
        """AssertionError unless all that is promised is promised by those who run."""
        assert {id(owner) for owner in self._computing.values()} <= {id(one) for one in running}

    def _shareable(self, sequence: Sequence) -> list[bytes]:
        """Names of the blocks others may give; the last token is always computed, for its logits."""
        blocks = (len(sequence.tokens) - 1) // self._pool.block_size
        self._name_blocks(sequence, blocks)
        return sequence.hashes[:blocks]

    def _name_blocks(self, sequence: Sequence, blocks: int) -> None:
        size = self._pool.block_size
        prefix.extend(sequence.hashes, sequence.request.block_salt, sequence.tokens, size, blocks)

    def _withdraw(self, sequence: Sequence, name: bytes) -> None:
        if self._computing.get(name) is sequence:
            del self._computing[name]
