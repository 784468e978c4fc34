"""`maas evaluate`: any stored vision version against labelled pictures, with the worst group and the gap."""

from dataclasses import asdict
from typing import Annotated

import typer

from cli.options import CACHE, ROOT, Cache, Json, Root
from cli.render import downloads, print_json
from cli.reports import show_left_out, show_report, show_slices
from services.runtime.store.sources.fetcher import Fetcher
from services.runtime.store.store import ModelStore


def evaluate(
    model: Annotated[str, typer.Argument(help="Name of a stored model that classifies pictures.")],
    data: Annotated[str, typer.Option(help="mnist, fashion or emoji (their test rows), or a folder of pictures.")],
    version: Annotated[str, typer.Option(help="Number or label; left out: the latest.")] = "",
    root: Root = ROOT,
    cache: Cache = CACHE,
    json: Json = False,
) -> None:
    """Measure a stored version: accuracy, F1, calibration, and the same by class and by group.

    A folder has one sub-folder a class, named as the model's label or its number; columns of its slices.csv
    (file, …) are groups. Rows the model was trained on are no evaluation: that is for you to know.
    """
    from training.evaluation import evaluate as measure

    store = ModelStore(root)
    manifest = store.resolve(model, version)
    with downloads() as report:
        found = measure(manifest, store.directory(manifest), data, Fetcher(cache.expanduser(), report))
    if json:
        return print_json({"model": manifest.name, "version": manifest.version, **asdict(found)})
    show_report(found)
    show_slices(found)
    show_left_out(found.details.get("left_out", {}))
    return None
