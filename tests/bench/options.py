"""What every part of the benchmark is told. Decides nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """`seconds` a point, `repeat` rounds; `threads` None = as the services choose; `tell` hears how far it is.

    `peers` None = those that are installed. `precision` of our own engine is for generation, `jobs`
    for serving: none = all.
    """

    store: Path
    home: Path
    seconds: float
    repeat: int
    threads: int | None
    tell: Callable[[str], None]
    peers: tuple[str, ...] | None = None
    jobs: tuple[str, ...] = ()
    precision: str = "auto"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def peers_root(self) -> Path:
        """Where the peers' environments and formats are kept."""
        return self.home.absolute() / "peers"

    @property
    def environment(self) -> dict[str, str]:
        """Added to that of the servers."""
        return {} if self.threads is None else {"MAAS_THREADS": str(self.threads)}
