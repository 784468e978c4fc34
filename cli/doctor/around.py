"""What a doctor looks at: where the suite lives and what it is told. Looks at nothing itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cli.program import PORTS
from cli.runfile import Run


@dataclass(frozen=True, slots=True)
class Around:
    """As `maas up` would see it. `run`: the suite that runs from `home`; `quick`: no files are hashed."""

    environ: Mapping[str, str]
    home: Path
    root: Path
    host: str = "127.0.0.1"
    ports: Mapping[str, int] = field(default_factory=lambda: dict(PORTS))
    run: Run | None = None
    quick: bool = False

    @property
    def up(self) -> bool:
        """Whether a suite runs from `home`."""
        return self.run is not None and self.run.supervisor.alive

    def path(self, variable: str) -> Path | None:
        """The file that a variable names; None where it is unset."""
        named = self.environ.get(variable, "")
        return Path(named) if named else None

    @property
    def tls(self) -> dict[str, str]:
        """The `MAAS_TLS_…` that hold: of the running suite, else of the environment."""
        own = {key: value for key, value in self.environ.items() if key.startswith("MAAS_TLS_") and value}
        return {**own, **(self.run.tls if self.run and self.up else {})}
