"""A command that torchrun started several times at once: all work, one speaks. Knows no command."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

LAUNCHED = "TORCHELASTIC_RUN_ID"  # torchrun sets it


@contextmanager
def together(environment: Mapping[str, str]) -> Iterator[None]:
    """Within it the processes that torchrun started with this one are joined, and all but the first are silent.

    Errors are told outside of it, by each process that has one.
    """
    if LAUNCHED not in environment:
        yield
        return
    from training.distributed import joined

    with joined() as team, Path(os.devnull).open("w") as nowhere:
        if team.leads:
            yield
            return
        with redirect_stdout(nowhere), redirect_stderr(nowhere):
            yield
