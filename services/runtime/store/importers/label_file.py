"""Class names → `labels.txt`, one a line, index = class. Knows no model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.runtime.errors import InvalidInput
from services.runtime.store.importers.inputs import Files

FILE = "labels.txt"


def write_labels(files: Files, directory: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """From `options["labels"]`, or a `labels.json` list among `files`; {} where there is neither."""
    labels = options.get("labels")
    if labels is None and "labels.json" in files:
        labels = json.loads(files["labels.json"].read_bytes())
    if labels is None:
        return {}
    if not all(isinstance(label, str) and label and "\n" not in label for label in labels):
        raise InvalidInput("labels", "must be a list of non-empty names without line breaks")
    (directory / FILE).write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    return {"labels": FILE}
