"""`maas train`: runs recipes, shows their progress and reports, publishes what they make."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cli.options import CACHE, HOME, ROOT, Cache, Home, Root
from cli.prepare import choose_runner
from cli.render import downloads, err, out, table
from cli.reports import show_report
from services.runtime.errors import InvalidInput, ServiceError
from services.runtime.store.sources.fetcher import Fetcher
from services.runtime.store.store import ModelStore

Setting = Annotated[list[str] | None, typer.Option("--set", help="key=value of the recipe's plan; repeatable.")]

ALL = "all"
COMMON = ("seed", "threads", "device", "max_seconds")
QUICK_EPOCHS, QUICK_SECONDS = 2, 30.0


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or all; left out with --list.")] = "",
    chosen: Setting = None,
    data: Annotated[str, typer.Option(help="Your own data: the recipe's setting `data`.")] = "",
    publish: Annotated[str, typer.Option(help="Publish the result under this name.")] = "",
    listing: Annotated[bool, typer.Option("--list", help="Show the recipes and their plans.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Two epochs and half a minute at most: a trial.")] = False,
    root: Root = ROOT,
    cache: Cache = CACHE,
    home: Home = HOME,
) -> None:
    """Train a recipe; a run that was killed goes on from its last checkpoint."""
    if listing or not recipe:
        return show_recipes()
    settings = settings_of(chosen or []) | ({"data": data} if data else {})
    if recipe == ALL:
        if publish or settings.keys() - COMMON:
            raise InvalidInput("recipe", f"all takes no --publish, no --data and no --set but {', '.join(COMMON)}")
        return train_all(settings, quick, cache, home)
    finished, plan = train_one(recipe, settings, quick, cache, home)
    show_report(finished.report)
    out().print(f"{finished.steps} steps in {finished.seconds:.1f} s; plots: {plots_of(finished)}", soft_wrap=True)
    if publish:
        publish_finished(ModelStore(root), publish, finished, plan)
    return None


def train_one(recipe: str, settings: dict[str, Any], quick: bool, cache: Path, home: Path) -> tuple[Any, Any]:
    """(Finished, Plan). A trial has a folder of its own and leaves the true run's checkpoint alone."""
    from training.disk import told_when_full
    from training.plan import plan_of
    from training.recipes.table import find
    from training.run import run

    found = find(recipe)
    plan = plan_of(found.plan, settings)
    if quick:
        plan = plan.model_copy(update={"epochs": min(plan.epochs, QUICK_EPOCHS), "max_seconds": QUICK_SECONDS})
    folder = home / "training" / ("quick" if quick else "") / recipe
    with downloads() as report:
        fetcher = Fetcher(cache.expanduser(), report)
        with bar(recipe) as tell, told_when_full(folder):
            finished = run(found, plan, fetcher, folder, tell)
    err().print(f"[dim]{told_data(finished)}[/dim]", soft_wrap=True)
    return finished, plan


def train_all(settings: dict[str, Any], quick: bool, cache: Path, home: Path) -> None:
    """Every recipe in turn, then one table. One that cannot be trained stops no other, but the command fails."""
    from training.recipes.table import RECIPES

    rows, failed = [], 0
    for name in RECIPES:
        try:
            finished, _ = train_one(name, settings, quick, cache, home)
            rows.append(summary(name, finished))
        except ServiceError as error:
            failed += 1
            rows.append([name, error.message, "", "", "", ""])
    columns = ["recipe", "data", "seconds", "metric", "held out", "baseline"]
    out().print(table(columns, rows, right=["seconds", "held out", "baseline"]))
    if failed:
        raise typer.Exit(1)


def summary(name: str, finished: Any) -> list[str]:
    """recipe, package or folder of its data, seconds, first metric, its held-out value, the baseline's."""
    metric, value = next(iter(finished.report.metrics.items()))
    baseline = finished.report.baseline.get(metric)
    told = f"{finished.seconds:.1f}"
    shown = "" if baseline is None else f"{baseline:.4f}"
    source = finished.trained.fields().get("provenance", {}).get("source", "")
    return [name, ":".join(source.split(":")[:2]), told, metric, f"{value:.4f}", shown]


def told_data(finished: Any) -> str:
    """Source and rows."""
    provenance = finished.trained.fields().get("provenance", {})
    return " ".join(str(provenance[key]) for key in ("source", "notes") if provenance.get(key))


def plots_of(finished: Any) -> str:
    return ", ".join(map(str, finished.plots))


def publish_finished(store: ModelStore, name: str, finished: Any, plan: Any) -> None:
    """A new version of `name`."""
    from training.disk import told_when_full
    from training.publish import publish

    err().print("[dim]choosing the runner[/dim]")
    with told_when_full(store.root):
        made = publish(
            store, name, finished.trained, finished.model, finished.report, plan, choose_runner, finished.plots
        )
    out().print(f"published {made.name} version {made.version} ({made.runner}, {made.digest[:19]}…)")


def settings_of(pairs: list[str]) -> dict[str, Any]:
    """`key=value` strings → a table. InvalidInput for one without `=`."""
    for pair in pairs:
        if "=" not in pair:
            raise InvalidInput("--set", f"{pair!r} is not key=value")
    return dict(pair.split("=", 1) for pair in pairs)


def show_recipes() -> None:
    """One line a recipe, with the settings that differ from the common plan."""
    from training.plan import Plan
    from training.recipes.table import RECIPES

    common = Plan().model_dump()
    rows = []
    for name, recipe in sorted(RECIPES.items()):
        own = {key: value for key, value in recipe.plan().model_dump().items() if common.get(key) != value}
        rows.append([name, recipe.summary, " ".join(f"{key}={value}" for key, value in own.items())])
    out().print(table(["recipe", "what", "plan"], rows))


@contextmanager
def bar(name: str) -> Iterator[Callable[[Any], None]]:
    """A progress bar with loss, rate and time left; yields what tells it."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"))
    with Progress(*columns, TimeRemainingColumn(), console=err(), transient=True) as progress:
        task = progress.add_task(f"training {name}", total=None, told="")

        def tell(now: Any) -> None:
            told = f"epoch {now.epoch + 1}/{now.epochs} loss {now.loss:.4f} {now.rows_per_s:.0f} rows/s"
            progress.update(task, total=now.steps, completed=now.step, told=told)

        yield tell
