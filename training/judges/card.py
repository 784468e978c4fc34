"""What a model card keeps of evaluations: one entry for each set of data, the last one made. Knows no judge."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.runtime.store.manifest import Manifest
from services.runtime.store.store import ModelStore
from training.recipe import Report

EVALUATIONS = "evaluations"
SHARED = ("precisions",)  # by the last evaluation that told them: the service chooses by it
MOST_CLASSES = 100  # a table of confusion grows with their square


def save(store: ModelStore, manifest: Manifest, data: str, report: Report) -> None:
    """Lays the report into the version's card under the name of its data. The digest stays as it is.

    Two who save at once both find their entry there. Raises ModelNotFound if the version is gone.
    """
    new = {Path(data).absolute().name: entry(report)}
    shared = {key: finite(report.details[key]) for key in SHARED if key in report.details}
    store.change_card(manifest, lambda card: {**card, **shared, EVALUATIONS: {**card.get(EVALUATIONS, {}), **new}})


def entry(report: Report) -> dict[str, Any]:
    """Plain data, every number finite or missing, and the time it was made (UTC)."""
    details = dict(report.details)
    if len(details.get("confusion", ())) > MOST_CLASSES:
        del details["confusion"]
        details["classes"] = {name: told for name, told in details["classes"].items() if told["support"]}
    told = {
        "evaluated_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "metrics": report.metrics,
        "baseline": report.baseline,
        "slices": report.slices,
        "details": details,
    }
    return {key: finite(value) for key, value in told.items()}


def finite(value: Any) -> Any:
    """`value` with None for every number that JSON cannot spell."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
