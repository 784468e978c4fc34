"""`maas train`: runs recipes, shows their reports, publishes what they make."""

from typing import Annotated, Any

import typer
from rich.markup import escape

from cli.options import CACHE, HOME, ROOT, Cache, Home, Json, Root
from cli.render import err, out, print_json, table
from cli.reports import show_left_out, show_report
from cli.running import Runs, publish_finished, told_data
from cli.sweep import grid_of, train_sweep
from cli.train_all import train_all
from services.runtime.errors import InvalidInput
from services.runtime.store.paths import check_name
from services.runtime.store.store import ModelStore

Setting = Annotated[list[str] | None, typer.Option("--set", help="key=value of the recipe's plan; repeatable.")]
Sweep = Annotated[
    list[str] | None, typer.Option("--sweep", help="key=a,b,c: train each and choose; repeatable makes a grid.")
]

ALL = "all"
COMMON = ("seed", "threads", "device", "max_seconds")


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or all.")] = "",
    chosen: Setting = None,
    swept: Sweep = None,
    data: Annotated[str, typer.Option(help="Your own data: the recipe's setting `data`.")] = "",
    publish: Annotated[str, typer.Option(help="Publish the result under this name.")] = "",
    listing: Annotated[bool, typer.Option("--list", help="Show the recipes, or every setting of RECIPE.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Two epochs and half a minute at most: a trial.")] = False,
    root: Root = ROOT,
    cache: Cache = CACHE,
    home: Home = HOME,
    json: Json = False,
) -> None:
    """Train a recipe: data, training, one look at the test rows, and with --publish a version in the store.

    A run lives in HOME/training/RECIPE. One that was killed or stopped by Ctrl-C goes on from its last checkpoint
    when the same command is given again; other settings or other data begin anew.

    With --sweep every point is trained in HOME/training/sweep/RECIPE and the best on validation rows is chosen;
    the test rows are looked at for that one alone.

    `maas train --list` names the recipes, `maas train RECIPE --list` what each setting means.
    """
    if listing or not recipe:
        return show_recipe(recipe, json) if recipe else show_recipes(json)
    settings = settings_of(chosen or []) | ({"data": data} if data else {})
    runs = Runs(cache, home, root, quick)
    if recipe == ALL:
        if publish or swept or settings.keys() - COMMON:
            told = f"all takes no --publish, no --sweep, no --data and no --set but {', '.join(COMMON)}"
            raise InvalidInput("recipe", told)
        return train_all(runs, settings, json)
    if publish:
        check_name(publish)  # before hours of training, not after
    finished, plan = train_one(runs, recipe, settings, grid_of(swept or []), json)
    if not json:
        show_finished(finished)
    made = publish_finished(ModelStore(root), publish, finished, plan) if publish else None
    if json:
        return print_json(finished_told(finished, plan, made))
    if made is not None:
        out().print(f"published {made.name} version {made.version} ({made.runner}, {made.digest[:19]}…)")
    return None


def train_one(
    runs: Runs, name: str, settings: dict[str, Any], swept: dict[str, list[str]], quiet: bool = False
) -> tuple[Any, Any]:
    """(Finished, Plan) of a recipe by name, or of the best point of its sweep."""
    from training.recipes.table import find
    from training.run import run

    recipe = find(name)
    if swept:
        return train_sweep(runs, recipe, settings, swept, show=not quiet)
    plan = runs.plan(recipe, settings)
    return runs.go(run, recipe, plan, runs.folder(name), name), plan


def show_finished(finished: Any) -> None:
    """The report, what was left out of the data, where the plots are."""
    err().print(f"[dim]{escape(told_data(finished))}[/dim]", soft_wrap=True)
    show_report(finished.report)
    show_left_out(finished.report.details)
    plots = ", ".join(map(str, finished.plots))
    out().print(f"{finished.steps} steps in {finished.seconds:.1f} s; plots: {plots}", soft_wrap=True)


def finished_told(finished: Any, plan: Any, made: Any) -> dict[str, Any]:
    """Plain data: the card, the run, and what was published."""
    from training.publish import card

    told = {"steps": finished.steps, "seconds": finished.seconds, "plots": [str(p) for p in finished.plots]}
    published = made and {"name": made.name, "version": made.version, "runner": made.runner, "digest": made.digest}
    return {**card(finished.report, plan), **told, "published": published}


def settings_of(pairs: list[str]) -> dict[str, Any]:
    """`key=value` strings → a table. InvalidInput for one without `=`."""
    for pair in pairs:
        if "=" not in pair:
            raise InvalidInput("--set", f"{pair!r} is not key=value")
    return dict(pair.split("=", 1) for pair in pairs)


def show_recipes(json: bool) -> None:
    """One line a recipe, with the settings that differ from the common plan."""
    from training.plan import Plan
    from training.recipes.table import RECIPES

    if json:
        return print_json([recipe_told(recipe) for _, recipe in sorted(RECIPES.items())])
    common = Plan().model_dump()
    rows = []
    for name, recipe in sorted(RECIPES.items()):
        own = {key: value for key, value in recipe.plan().model_dump().items() if common.get(key) != value}
        rows.append([name, recipe.summary, escape(" ".join(f"{key}={value}" for key, value in own.items()))])
    out().print(table(["recipe", "what", "plan"], rows))
    return None


def show_recipe(name: str, json: bool) -> None:
    """Every setting of one recipe. NotFound names those that exist."""
    from training.recipes.table import find

    told = recipe_told(find(name))
    if json:
        return print_json(told)
    out().print(f"{name}: {told['what']}", highlight=False)
    rows = [[key, escape(str(one["default"])), one["means"]] for key, one in told["settings"].items()]
    out().print(table(["setting", "default", "means"], rows))
    return None


def recipe_told(recipe: Any) -> dict[str, Any]:
    """Plain data: name, what it is, and of each setting the default and the meaning."""
    defaults = recipe.plan().model_dump()
    settings = {key: {"default": value, "means": meaning(recipe.plan, key)} for key, value in defaults.items()}
    return {"name": recipe.name, "what": recipe.summary, "settings": settings}


def meaning(plan: Any, key: str) -> str:
    """The description nearest in the line of plans: a recipe may give a setting another default only."""
    fields = (base.model_fields[key] for base in plan.__mro__ if key in getattr(base, "model_fields", {}))
    return next((field.description for field in fields if field.description), "")
