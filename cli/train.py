"""`maas train`: runs recipes, shows their progress and reports, publishes what they make."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cli.options import CACHE, HOME, ROOT, Cache, Home, Root
from cli.prepare import choose_runner
from cli.render import downloads, err, out, table
from services.runtime.errors import InvalidInput
from services.runtime.store.sources.fetcher import Fetcher
from services.runtime.store.store import ModelStore

Setting = Annotated[list[str] | None, typer.Option("--set", help="key=value of the recipe's plan; repeatable.")]


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe; left out with --list.")] = "",
    chosen: Setting = None,
    publish: Annotated[str, typer.Option(help="Publish the result under this name.")] = "",
    listing: Annotated[bool, typer.Option("--list", help="Show the recipes and their plans.")] = False,
    root: Root = ROOT,
    cache: Cache = CACHE,
    home: Home = HOME,
) -> None:
    """Train a recipe; a run that was killed goes on from its last checkpoint."""
    if listing or not recipe:
        return show_recipes()
    from training.plan import plan_of
    from training.publish import publish as store_version
    from training.recipes.table import find
    from training.run import run

    found = find(recipe)
    plan = plan_of(found.plan, settings_of(chosen or []))
    with downloads() as report:
        fetcher = Fetcher(cache.expanduser(), report)
    with bar() as tell:
        finished = run(found, plan, fetcher, home / "training" / recipe, tell)
    show_report(finished.report, finished.seconds, finished.steps)
    if publish:
        err().print("[dim]choosing the runner[/dim]")
        store = ModelStore(root)
        made = store_version(
            store, publish, finished.trained, finished.model, finished.report, plan, choose_runner
        )
        out().print(f"published {made.name} version {made.version} ({made.runner}, {made.digest[:19]}…)")
    return None


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


def show_report(report: Any, seconds: float, steps: int) -> None:
    """Metrics beside the baseline, and the worst group of each slice."""
    rows = [[key, f"{value:.4f}", _shown(report.baseline.get(key))] for key, value in report.metrics.items()]
    out().print(table(["metric", "held out", "baseline"], rows, right=["held out", "baseline"]))
    for name in report.slices:
        group, value, gap = report.worst(name, "accuracy")
        out().print(f"worst {name}: {group} with accuracy {value:.4f}, {gap:.4f} below the best")
    out().print(f"{steps} steps in {seconds:.1f} s")


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


@contextmanager
def bar() -> Iterator[Callable[[Any], None]]:
    """A progress bar with loss, rate and time left; yields what tells it."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"))
    with Progress(*columns, TimeRemainingColumn(), console=err(), transient=True) as progress:
        task = progress.add_task("training", total=None, told="")

        def tell(now: Any) -> None:
            told = f"epoch {now.epoch + 1}/{now.epochs} loss {now.loss:.4f} {now.rows_per_s:.0f} rows/s"
            progress.update(task, total=now.steps, completed=now.step, told=told)

        yield tell
