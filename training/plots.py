"""Pictures of a run: its loss curve, its confusion matrix, its forecast. Reads journal and report, draws PNG."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training import journal
from training.recipe import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE_INCHES, DPI = 6.0, 100
NAMED_CLASSES = 30


def draw(folder: Path, report: Report, labels: Sequence[str]) -> list[Path]:
    """Writes what there is to draw of the run in `folder` as PNG beside its journal; returns the files."""
    figures = {"loss": loss_curve(journal.read(folder))}
    if "confusion" in report.details:
        figures["confusion"] = confusion_matrix(report.details["confusion"], labels)
    if "forecast" in report.details:
        figures["forecast"] = forecast(**report.details["forecast"])
    return [_save(figure, folder / f"{name}.png") for name, figure in figures.items()]


def loss_curve(lines: Sequence[dict[str, Any]]) -> "Figure":
    """Training loss by step, its mean by epoch, and the validation score on an axis of its own."""
    figure, axes = _figure()
    steps = [line for line in lines if line["kind"] == "step"]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    axes.plot(
        [line["step"] for line in steps], [line["loss"] for line in steps], alpha=0.4, label="loss of a step"
    )
    ends = [line["step"] for line in epochs]
    axes.plot(ends, [line["train_loss"] for line in epochs], marker="o", label="mean of an epoch")
    axes.set(xlabel="step", ylabel="training loss")
    axes.legend(loc="upper right")
    scores = axes.twinx()
    scores.plot(ends, [line["score"] for line in epochs], color="tab:green", marker="s")
    scores.set_ylabel("validation score", color="tab:green")
    return figure


def confusion_matrix(table: Sequence[Sequence[int]], labels: Sequence[str]) -> "Figure":
    """Rows are the truth, columns what was said; each row is coloured by its shares."""
    figure, axes = _figure()
    shares = [[count / max(1, sum(row)) for count in row] for row in table]
    figure.colorbar(axes.imshow(shares, vmin=0, vmax=1, cmap="Blues"), label="share of the row")
    axes.set(xlabel="predicted", ylabel="truth")
    if len(labels) <= NAMED_CLASSES:
        axes.set_xticks(range(len(labels)), labels, rotation=90)
        axes.set_yticks(range(len(labels)), labels)
        for row, counts in enumerate(table):
            for column, count in enumerate(counts):
                colour = "white" if shares[row][column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=7)
    return figure


def forecast(
    truth: Sequence[float],
    predicted: Sequence[float],
    times: Sequence[float] = (),
    last_value: Sequence[float] = (),
    ahead: Sequence[float] = (),
    ahead_times: Sequence[float] = (),
) -> "Figure":
    """What came against what was foretold, step by step; the naive forecast, and a long one from one origin."""
    figure, axes = _figure()
    steps = times or range(len(truth))
    if last_value:
        axes.plot(steps, last_value, label="last value", color="tab:gray", linewidth=0.6)
    axes.plot(steps, truth, label="truth")
    axes.plot(steps, predicted, label="forecast one step ahead")
    if ahead:
        axes.plot(ahead_times, ahead, label=f"{len(ahead)} steps ahead of the last origin", linestyle="--")
    axes.set(xlabel="time" if times else "held-out step", ylabel="value")
    axes.legend()
    return figure


def _figure() -> tuple["Figure", Any]:
    # imported here: only a run that ends well pays for it; no pyplot, which keeps figures in a global
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SIDE_INCHES * 4 / 3, SIDE_INCHES), layout="constrained")
    return figure, figure.add_subplot()


def _save(figure: "Figure", path: Path) -> Path:
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    return path
