"""A trained net → a version in the store: weights, labels, runner chosen by measuring, card. Atomic.

The engine serves language models by itself: for them there is no runner to choose.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from services.runtime.store.manifest import Manifest
from services.runtime.store.publish import PLOTS, Draft
from services.runtime.store.store import ModelStore
from training.plan import Plan
from training.recipe import Report, Trained, Writer

Prepare = Callable[[Draft], None]


def publish(
    store: ModelStore,
    name: str,
    trained: Trained,
    model: nn.Module,
    report: Report,
    plan: Plan,
    prepare: Prepare,
    plots: Sequence[Path] = (),
) -> Manifest:
    """The new version. Nothing is visible before everything is written; a failure leaves the store as it was."""
    with store.publish(name) as draft:
        if isinstance(trained, Writer):
            trained.write(model, draft.directory)
        else:
            write_weights(model, draft.directory)
        if trained.labels():
            (draft.directory / "labels.txt").write_text("\n".join(trained.labels()) + "\n", encoding="utf-8")
        draft.fields.update(trained.fields())
        draft.card.update(card(report, plan))
        copy_plots(plots, draft.directory / PLOTS)
        if draft.fields.get("runner") != "engine":
            prepare(draft)
    assert draft.published is not None
    return draft.published


def copy_plots(plots: Sequence[Path], folder: Path) -> None:
    """Pictures of the run beside the model, where they are no part of its digest."""
    for plot in plots:
        folder.mkdir(exist_ok=True)
        shutil.copyfile(plot, folder / plot.name)


def write_weights(model: nn.Module, directory: Path) -> None:
    """`model.safetensors` with the net's own keys."""
    weights = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    save_file(weights, directory / "model.safetensors")


def card(report: Report, plan: Plan) -> dict[str, Any]:
    """What the model card keeps of a run."""
    return {
        "metrics": dict(report.metrics),
        "baseline": dict(report.baseline),
        "slices": {name: {g: dict(v) for g, v in groups.items()} for name, groups in report.slices.items()},
        "details": dict(report.details),
        "plan": plan.model_dump(),
    }
