"""Every precision of a stored version on one text: the door for evaluation. Serves nothing, writes no card."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from services.generation import eight_bits, figures, quality, rounding
from services.generation.engine.runner import Runner
from services.generation.models import registry
from services.runtime.compiled import FOLDER, NoCompiler
from services.runtime.errors import PreconditionFailed
from services.runtime.store.manifest import Manifest
from services.runtime.store.store import ModelStore

NOTES = {"int4": f"groups of {rounding.GROUP} weights, arithmetic in fp32: no runner serves it"}


def appraise(
    manifest: Manifest,
    directory: Path,
    ids: Sequence[int],
    context: int,
    threads: int = 1,
    tell: quality.Tell = lambda done, of: None,
) -> dict[str, dict[str, Any]]:
    """Precision → `quality.Cost` by every id but the first, beside fp32; or why it cannot be had."""
    net = registry.load(manifest, directory)
    found: dict[str, dict[str, Any]] = {}
    for number, (name, opened) in enumerate(RUNNERS.items()):

        def told(done: int, of: int | None, before: int = number) -> None:
            tell(before * (len(ids) - 1) + done, len(RUNNERS) * (len(ids) - 1))

        try:
            runner = opened(manifest, directory, context, threads)
        except (NoCompiler, PreconditionFailed, OSError) as error:
            found[name] = {"note": f"cannot be had: {error}"}
            continue
        try:
            _, cost = quality.costs([quality.reference(net, context), runner], ids, context, told)
        finally:
            runner.close()
        found[name] = figures.plain(cost) | ({"note": NOTES[name]} if name in NOTES else {})
    return found


def _fp32(manifest: Manifest, directory: Path, context: int, threads: int) -> Runner:
    return quality.reference(registry.load(manifest, directory), context)


def _int8(manifest: Manifest, directory: Path, context: int, threads: int) -> Runner:
    means = eight_bits.Means(ModelStore(directory.parents[1]), FOLDER.expanduser(), threads)
    return eight_bits.open_runner(manifest, means, quality.blocks_of(context))


def _int4(manifest: Manifest, directory: Path, context: int, threads: int) -> Runner:
    return quality.reference(rounding.rounded(registry.load(manifest, directory), 4), context)


# A new precision is one more line.
RUNNERS: Mapping[str, Callable[[Manifest, Path, int, int], Runner]] = {"fp32": _fp32, "int8": _int8, "int4": _int4}
