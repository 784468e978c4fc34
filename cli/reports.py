"""How a training or evaluation report looks on a terminal. Knows no recipe and no model."""

from collections.abc import Mapping
from typing import Any

from rich.markup import escape

from cli.render import out, table
from training.slices import SMALL_GROUP, Groups, Worst, is_small, lower_is_better, metric_of, worst_of

MOST_FILES, MOST_GROUPS = 10, 25
FEW = f"under {SMALL_GROUP} rows"


def show_report(report: Any) -> None:
    """Metrics beside the baseline, and for each slice the worst group and its gap to the best: the bias report."""
    rows = [[key, shown(value), shown(report.baseline.get(key))] for key, value in report.metrics.items()]
    out().print(table(["metric", "held out", "baseline"], rows, right=["held out", "baseline"]))
    for name, groups in report.slices.items():
        metric = metric_of(groups, report.metrics)
        if metric is not None:
            told = f"worst {name}: {told_worst(worst_of(groups, metric))}{told_small(groups)}"
            out().print(told, soft_wrap=True, highlight=False, markup=False)
    if "privacy" in report.details:
        out().print(told_privacy(report.details["privacy"]), soft_wrap=True, highlight=False, markup=False)
    for text in report.details.get("samples", ()):
        out().print(f"sample: {text}", soft_wrap=True, highlight=False, markup=False)


def precision_table(told: Mapping[str, Any]) -> Any:
    """A row a precision: perplexity and what it is above that of fp32, divergence, the largest error."""
    every = {name: cost for name, cost in told.items() if isinstance(cost, Mapping)}
    exact = every.get("fp32", {}).get("perplexity")
    columns = ["precision", "perplexity", "above fp32", "divergence", "largest error", ""]
    return table(columns, [_told_precision(*one, exact) for one in every.items()], right=columns[1:5])


def _told_precision(name: str, cost: Mapping[str, Any], exact: float | None) -> list[str]:
    above = f"{cost['perplexity'] / exact - 1:+.2%}" if exact and "perplexity" in cost else ""
    figures = [shown(cost.get("perplexity")), above]
    figures += [shown(cost.get(key)) for key in ("divergence", "max_logprob_error")]
    return [name, *figures, escape(str(cost.get("note", "")))]


def told_privacy(spent: Mapping[str, Any]) -> str:
    """`private: ε 3.00 at δ 1e-05 for one training row (…)`, and what that does not cover."""
    how = "σ {noise_multiplier:.3f}, C {clip_norm:g}, {steps} steps, {accountant}, secure mode off"
    told = "private: ε {epsilon:.2f} at δ {delta:g} for one training row (" + how + ")"
    return f"{told.format(**spent)}; not covered: {spent['not_covered']}"


def told_worst(worst: Worst) -> str:
    """`blue with accuracy 0.8000 on 20 rows, 0.2000 below the best`."""
    side = "above" if lower_is_better(worst.metric) else "below"
    few = f" ({FEW}: little is known)" if worst.small else ""
    value = f"{worst.group} with {worst.metric} {shown(worst.value)}"
    return f"{value} on {worst.rows:.0f} rows{few}, {shown(worst.gap)} {side} the best"


def told_small(groups: Groups) -> str:
    """How many groups have too few rows to say much."""
    count = sum(is_small(told.get("count", 0)) for told in groups.values())
    return f"; {count} of {len(groups)} groups have {FEW}" if count else ""


def show_slices(report: Any) -> None:
    """The groups of every slice, the worst first; of very many only those."""
    columns = ["slice", "group", "rows", "metric", "value", "95 %", ""]
    rows = [row for name, groups in report.slices.items() for row in slice_rows(name, groups, report.metrics)]
    if rows:
        out().print(table(columns, rows, right=["rows", "value"]))


def slice_rows(name: str, groups: Groups, metrics: Mapping[str, float]) -> list[list[str]]:
    """One row a group, by the first metric that all groups have, with its interval where one is told."""
    metric = metric_of(groups, metrics)
    if metric is None:
        return []
    order = sorted(groups.items(), key=lambda item: item[1][metric], reverse=lower_is_better(metric))
    found = [[escape(name), escape(group), *_told_group(told, metric)] for group, told in order[:MOST_GROUPS]]
    rest = len(order) - len(found)
    return [*found, [escape(name), f"{rest} more, by --json", "", "", "", "", ""]] if rest else found


def show_left_out(details: Mapping[str, Any]) -> None:
    """The columns that are no slices, and the first few rows that were left out, for each reason."""
    for name, count in details.get("too_many_groups", {}).items():
        told = f"not broken down by {name}: {count} groups; maas evaluate does by --slice {name}"
        out().print(told, soft_wrap=True, highlight=False, markup=False)
    for reason, rows in details.get("left_out", {}).items():
        if rows:
            named = ", ".join(rows[:MOST_FILES]) + (", …" if len(rows) > MOST_FILES else "")
            out().print(f"left out as {reason}: {named}", soft_wrap=True, highlight=False, markup=False)


def shown(value: float | None) -> str:
    """Four places, or four figures of what is large; nothing for nothing."""
    if value is None:
        return ""
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.1f}"


def _told_group(told: Mapping[str, float], metric: str) -> list[str]:
    low, high = told.get(f"{metric}_low"), told.get(f"{metric}_high")
    interval = f"{shown(low)}–{shown(high)}" if low is not None and high is not None else ""
    rows = told.get("count", 0)
    return [f"{rows:.0f}", metric, shown(told[metric]), interval, FEW if is_small(rows) else ""]
