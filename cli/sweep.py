"""`maas train RECIPE --sweep …`: trains each point of a grid, shows them, hands the best one on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.markup import escape

from cli.render import out, table
from cli.reports import shown
from cli.running import Runs, write_table
from services.runtime.errors import InvalidInput

FILE = "sweep.json"
CUT = ("epochs", "max_seconds")  # what a trial sets itself


def train_sweep(
    runs: Runs, recipe: Any, settings: Mapping[str, Any], swept: Mapping[str, Sequence[str]], show: bool = True
) -> tuple[Any, Any]:
    """(Finished, Plan) of the best point; every plan is checked before the first is trained."""
    from training.disk import told_when_full
    from training.run import train
    from training.sweep import Point, points_of, sweep

    if runs.quick and swept.keys() & set(CUT):
        raise InvalidInput("sweep", f"--quick sets {' and '.join(CUT)} itself")
    points = points_of(recipe.plan, runs.settled(recipe, settings), swept)
    points = [replace(point, plan=runs.trial(point.plan)) for point in points]
    home = runs.folder("sweep", recipe.name)

    def fit(point: Point) -> Any:
        title = f"{recipe.name} {points.index(point) + 1}/{len(points)} {point.label}"
        return runs.go(train, recipe, point.plan, home / point.name, title)

    found = sweep(points, fit)
    if show:
        show_outcomes(found.outcomes)
    write_table(home / FILE, [outcome.told() for outcome in found.outcomes])
    with told_when_full(home):
        return found.evaluate(), found.best.plan


def show_outcomes(outcomes: Sequence[Any]) -> None:
    """One row a point: its settings, its best score on validation rows (higher is better), when, how long."""
    keys = list(outcomes[0].settings)
    rows = [
        [
            *(str(value) for value in outcome.settings.values()),
            shown(outcome.score),
            str(outcome.best_epoch),
            f"{outcome.seconds:.1f}",
            "← chosen" if outcome.chosen else escape(outcome.note),
        ]
        for outcome in outcomes
    ]
    figures = ["validation score", "best epoch", "seconds"]
    out().print(table([*keys, *figures, ""], rows, right=figures))
    best = max(outcome.score for outcome in outcomes if outcome.score is not None)
    if (equal := sum(outcome.score == best for outcome in outcomes)) > 1:
        out().print(f"{equal} points have the highest score: the first of them was chosen", highlight=False)


def grid_of(pairs: Sequence[str]) -> dict[str, list[str]]:
    """`key=a,b,c` strings → columns. InvalidInput for one without `=` or a key told twice."""
    found: dict[str, list[str]] = {}
    for pair in pairs:
        key, sign, values = pair.partition("=")
        if not sign or not key:
            raise InvalidInput("--sweep", f"{pair!r} is not key=a,b,c")
        if key in found:
            raise InvalidInput("--sweep", f"{key} is told twice: put all its values into one")
        found[key] = values.split(",")
    return found
