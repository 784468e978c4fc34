"""How things look on a terminal: tables, sizes, errors, download progress. Knows no command."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from services.runtime.errors import ServiceError
from services.runtime.store.sources.report import Report


def out() -> Console:
    """What the user asked for goes to stdout."""
    return Console()


def err() -> Console:
    """Progress and errors go to stderr, so that stdout can be piped."""
    return Console(stderr=True)


def print_error(error: ServiceError) -> None:
    """The code and the text; each broken rule on a line of its own."""
    console = err()
    console.print(f"[red]{error.code.name}[/red] {escape(error.message)}", soft_wrap=True)
    for violation in error.violations[1:]:
        console.print(f"  {escape(violation.field)}: {escape(violation.description)}", soft_wrap=True)


def print_json(value: Any) -> None:
    """Plain JSON: no colours where nobody looks."""
    Console(file=sys.stdout).print_json(data=value)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> Table:
    """A table without borders; columns named in `right` are aligned right."""
    result = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        justify: JustifyMethod = "right" if heading in right else "left"
        result.add_column(heading, justify=justify, overflow="fold", no_wrap=heading == headings[0])
    for row in rows:
        result.add_row(*row)
    return result


def size(count: int) -> str:
    """Bytes as a person reads them: 538.1 MB."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def fields(pairs: Mapping[str, str]) -> Table:
    """Name and value, one pair a line."""
    result = Table(box=None, show_header=False, pad_edge=False)
    result.add_column(no_wrap=True)
    result.add_column(overflow="fold")
    for name, value in pairs.items():
        result.add_row(f"[bold]{name}[/bold]", escape(value))
    return result


@contextmanager
def downloads() -> Iterator[Report]:
    """A Report that draws one bar for each label; the bars stay when the work is done."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=err()) as progress:

        def report(label: str, done: int, total: int | None) -> None:
            if label not in bars:
                bars[label] = progress.add_task(label, total=total)
            progress.update(bars[label], completed=done, total=total)

        yield report
