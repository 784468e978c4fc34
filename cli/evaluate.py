"""`maas evaluate`: any stored version against held-out data, with the worst group and the gap of every slice."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from threading import Timer
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cli.completing import stored_models
from cli.options import CACHE, ROOT, Cache, Json, Root
from cli.render import downloads, err, out, print_json
from cli.reports import precision_table, show_left_out, show_report, show_slices
from services.runtime.store.sources.fetcher import Fetcher
from services.runtime.store.store import ModelStore

PATIENCE_S = 2.0  # less than this needs no progress bar
STOPPED = 130  # what a shell expects of a program that Ctrl-C ended

Tell = Callable[[int, int | None], None]


def evaluate(
    model: Annotated[str, typer.Argument(help="Name of a stored model.", autocompletion=stored_models)],
    data: Annotated[str, typer.Option(help="A named set, a file or a folder; see above.")],
    version: Annotated[str, typer.Option(help="Number or label; left out: the latest.")] = "",
    slices: Annotated[
        list[str] | None, typer.Option("--slice", help="Break down by this column alone; repeatable.")
    ] = None,
    horizon: Annotated[int, typer.Option(min=0, help="Forecasts: steps ahead; 0 = as in training, or 1.")] = 0,
    season: Annotated[int, typer.Option(min=0, help="Forecasts: steps of a season; 0 = as in training.")] = 0,
    context: Annotated[int, typer.Option(min=0, help="Language models: tokens seen at once; 0 = as trained.")] = 0,
    characters: Annotated[int, typer.Option(min=0, help="Language models: most text; 0 = all of it.")] = 100_000,
    precisions: Annotated[
        bool, typer.Option("--precisions", help="Language models: fp32, int8 and int4 beside each other.")
    ] = False,
    threads: Annotated[int, typer.Option(min=0, help="0 = one a core.")] = 0,
    save: Annotated[bool, typer.Option("--save", help="Put the result into the version's card.")] = False,
    root: Root = ROOT,
    cache: Cache = CACHE,
    json: Json = False,
) -> None:
    """Measure a stored version on data that it did not learn from, run as serving runs it.

    Pictures: mnist, fashion, emoji, or a folder. Series to classify: basic-motions, or a CSV file. Texts to
    classify: spam, or JSON lines or CSV. Forecasts: sunspots, or a CSV file. Language models: kjv, or a text file,
    JSON lines or CSV. Of a named set, and of a file or folder that the version was trained on, the test rows alone
    are judged.

    The report breaks every metric down by class and by each column of groups, and names the worst group and its
    gap to the best. --save puts it into the model's card, which GetModel serves; the digest stays as it is. With
    --precisions a language model is measured in each precision too; once saved, the service chooses by that.
    """
    from training.evaluation import evaluate as measure
    from training.judges import card
    from training.judges.subject import Question

    store = ModelStore(root)
    manifest = store.resolve(model, version)
    question = Question(data, tuple(slices or ()), horizon, season, context, characters, threads, precisions)
    with (
        said_when_stopped(),
        downloads() as report,
        bar(f"evaluating {manifest.name}/{manifest.version} on {data}") as tell,
    ):
        store.verify(manifest)  # figures of a damaged version would be another's
        fetcher = Fetcher(cache.expanduser(), report)
        found = measure(manifest, store.directory(manifest), question, fetcher, tell)
    if save:
        card.save(store, manifest, data, found)
    if json:
        told = {"model": manifest.name, "version": manifest.version, "data": data, **asdict(found)}
        return print_json(card.finite(told))
    show(found)
    if save:
        err().print(f"[dim]saved in the card of {manifest.name}/{manifest.version}[/dim]")
    return None


def show(found: Any) -> None:
    """Metrics, the worst of each slice, every group, and what was left out."""
    if note := found.details.get("note"):
        out().print(f"note: {note}", soft_wrap=True, highlight=False)
    show_report(found)
    if "precisions" in found.details:
        out().print(precision_table(found.details["precisions"]))
    show_slices(found)
    show_left_out(found.details)


@contextmanager
def said_when_stopped() -> Iterator[None]:
    """Ctrl-C: exit status 130 and a line, no traceback."""
    try:
        yield
    except KeyboardInterrupt:
        err().print("stopped: nothing was saved")
        raise typer.Exit(STOPPED) from None


@contextmanager
def bar(title: str) -> Iterator[Tell]:
    """A progress bar for what takes longer than two seconds; a line where nobody can watch it move."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
    )
    progress = Progress(*columns, TimeRemainingColumn(), console=err(), transient=True)
    task = progress.add_task(title, total=None)
    begin = progress.start if err().is_terminal else lambda: err().print(f"[dim]{escape(title)}[/dim]")
    waiting = Timer(PATIENCE_S, begin)
    waiting.daemon = True
    waiting.start()
    try:
        yield lambda done, of: progress.update(task, completed=done, total=of)
    finally:
        waiting.cancel()
        waiting.join()
        if progress.live.is_started:
            progress.stop()
