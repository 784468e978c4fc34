"""How a training or evaluation report looks on a terminal. Knows no recipe and no model."""

from collections.abc import Mapping
from typing import Any

from cli.render import out, table

MOST_FILES = 10


def show_report(report: Any) -> None:
    """Metrics beside the baseline, and for each slice the worst group and its gap to the best: the bias report."""
    rows = [[key, _shown(value), _shown(report.baseline.get(key))] for key, value in report.metrics.items()]
    out().print(table(["metric", "held out", "baseline"], rows, right=["held out", "baseline"]))
    for name, groups in report.slices.items():
        metric = (
            "accuracy" if all("accuracy" in values for values in groups.values()) else next(iter(report.metrics))
        )
        group, value, gap = report.worst(name, metric)
        count = groups[group].get("count", 0)
        told = f"worst {name}: {group} with {metric} {value:.4f} on {count:.0f} rows, {gap:.4f} below the best"
        out().print(told, soft_wrap=True, highlight=False)
    for text in report.details.get("samples", ()):
        out().print(f"sample: {text}", soft_wrap=True, highlight=False, markup=False)


def show_slices(report: Any) -> None:
    """Every group of every slice."""
    rows = [
        [name, group, f"{values['count']:.0f}", f"{values['accuracy']:.4f}"]
        for name, groups in report.slices.items()
        for group, values in sorted(groups.items(), key=lambda item: item[1]["accuracy"])
    ]
    out().print(table(["slice", "group", "rows", "accuracy"], rows, right=["rows", "accuracy"]))


def show_left_out(left_out: Mapping[str, list[str]]) -> None:
    """The first few rows that were left out, for each reason."""
    for reason, rows in left_out.items():
        if rows:
            named = ", ".join(rows[:MOST_FILES]) + (", …" if len(rows) > MOST_FILES else "")
            out().print(f"left out as {reason}: {named}", soft_wrap=True, highlight=False)


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
