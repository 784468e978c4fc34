"""Runs of recipes from a terminal: where they live, their progress bar, how a stopped one goes on."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cli.prepare import choose_runner
from cli.render import downloads, err
from services.runtime.store.sources.fetcher import Fetcher
from services.runtime.store.store import ModelStore

Ended = TypeVar("Ended")

QUICK_EPOCHS, QUICK_SECONDS = 2, 30.0
STOPPED = 130  # what a shell expects of a program that Ctrl-C ended


@dataclass(frozen=True, slots=True)
class Runs:
    """Where runs keep their state and find data and base models. Trials (`quick`) have folders of their own and
    leave the true runs' checkpoints alone."""

    cache: Path
    home: Path
    root: Path
    quick: bool = False

    def plan(self, recipe: Any, settings: Mapping[str, Any]) -> Any:
        """The recipe's plan; InvalidInput for a setting that is unknown or out of range."""
        from training.plan import plan_of

        return self.trial(plan_of(recipe.plan, self.settled(recipe, settings)))

    def settled(self, recipe: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
        """`settings`, and the store of the command line where a recipe reads a base model from one."""
        own = {"store": str(self.root)} if "store" in recipe.plan.model_fields else {}
        return {**own, **settings}

    def trial(self, plan: Any) -> Any:
        """The plan itself, or cut short."""
        short = {"epochs": min(plan.epochs, QUICK_EPOCHS), "max_seconds": QUICK_SECONDS}
        return plan.model_copy(update=short) if self.quick else plan

    def folder(self, *parts: str) -> Path:
        return self.home.joinpath("training", *(["quick"] if self.quick else []), *parts)

    def go(self, how: Callable[..., Ended], recipe: Any, plan: Any, folder: Path, title: str) -> Ended:
        """`how(recipe, plan, fetcher, folder, tell)`, with bars on stderr. Ctrl-C says how to go on and exits."""
        from training.disk import told_when_full

        with said_when_stopped(folder), downloads() as report:
            fetcher = Fetcher(self.cache.expanduser(), report)
            with bar(title) as tell, told_when_full(folder):
                return how(recipe, plan, fetcher, folder, tell)


@contextmanager
def said_when_stopped(folder: Path) -> Iterator[None]:
    """Ctrl-C: whether a checkpoint is kept, and exit status 130."""
    from training.checkpoint import FILE

    try:
        yield
    except KeyboardInterrupt:
        kept = (
            "the same command goes on from the last checkpoint" if (folder / FILE).is_file() else "nothing to keep"
        )
        err().print(f"stopped: {kept} ({folder})", soft_wrap=True)
        raise typer.Exit(STOPPED) from None


@contextmanager
def bar(title: str) -> Iterator[Callable[[Any], None]]:
    """A progress bar with loss, rate and time left; yields what tells it."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[told]}"))
    with Progress(*columns, TimeRemainingColumn(), console=err(), transient=True) as progress:
        task = progress.add_task(f"training {title}", total=None, told="")

        def tell(now: Any) -> None:
            told = f"epoch {now.epoch + 1}/{now.epochs} loss {now.loss:.4f} {now.rows_per_s:.0f} rows/s"
            progress.update(task, total=now.steps, completed=now.step, told=f"{told} {now.note}".rstrip())

        yield tell


def publish_finished(store: ModelStore, name: str, finished: Any, plan: Any) -> Any:
    """A new version of `name`: its manifest. Of several processes the first one publishes."""
    from training.disk import told_when_full
    from training.distributed import present
    from training.publish import publish

    def made() -> Any:
        return publish(
            store, name, finished.trained, finished.model, finished.report, plan, choose_runner, finished.plots
        )

    err().print(f"[dim]publishing as {escape(name)}[/dim]")
    with told_when_full(store.root):
        return present().from_leader(made)


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """The rows as JSON, replacing the file at once. Of several processes the first one writes."""
    from training.disk import told_when_full, whole
    from training.distributed import present

    if present().leads:
        with told_when_full(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole(path) as aside:
                aside.write_text(json.dumps(list(rows), indent=2))


def told_data(finished: Any) -> str:
    """Source and rows."""
    provenance = finished.trained.fields().get("provenance", {})
    return " ".join(str(provenance[key]) for key in ("source", "notes") if provenance.get(key))
