"""Chooses the runner of a freshly imported draft by measuring; has language models made ready. The one place where
a pull meets the nets."""

import subprocess
import sys
from importlib import import_module

from services.runtime.errors import ModelNotFound
from services.runtime.store.manifest import Manifest
from services.runtime.store.manifest_file import DamagedModel
from services.runtime.store.publish import Draft
from services.runtime.store.pull import Photographs
from services.runtime.store.store import ModelStore

MEASURED = "precisions"  # what the card of a language model that is ready tells
NO_PHOTOGRAPHS = Photographs()
CALIBRATING, JUDGING = 24, 50  # views of each photograph


def choose_runner(draft: Draft, photographs: Photographs = NO_PHOTOGRAPHS) -> None:
    """Export the draft's net, measure both runners, write the choice and its figures into the draft.

    With photographs the exported net is tried in eight bits, too.
    """
    import torch

    from services.runtime.runners.choose import choose
    from services.runtime.runners.export import export
    from services.runtime.runners.samples import synthesise

    torch.set_num_threads(1)
    manifest = draft.manifest(1, {})
    area = manifest.tasks[0].split(".")[0]
    registry = import_module(f"services.{area}.models.registry")
    # Nets that take more than noise (ids, masks, lengths), or that no tracer follows, are known to their registry.
    sampler, exporter = getattr(registry, "samples", synthesise), getattr(registry, "export", export)
    module = registry.load(manifest, draft.directory)
    choice = choose(module, manifest, draft.directory, sampler, exporter=exporter)
    draft.fields["runner"] = choice.runner
    draft.card.update(choice.card())
    if choice.runner == "onnxruntime" and photographs.calibration:
        _choose_precision(draft, manifest, photographs)


def _choose_precision(draft: Draft, manifest: Manifest, photographs: Photographs) -> None:
    from services.runtime.pictures.preprocess import ImagePreprocessing
    from services.runtime.pictures.views import views_of
    from services.runtime.runners.eight_bits import try_eight_bits

    steps = ImagePreprocessing.of(manifest)
    calibration = views_of(photographs.calibration, steps, CALIBRATING, seed=1)
    held_out = {
        name: views_of({name: path}, steps, JUDGING, seed=2) for name, path in sorted(photographs.held_out.items())
    }
    verdict = try_eight_bits(manifest, draft.directory, calibration, held_out)
    draft.fields["precision"] = verdict.precision
    told = {"calibrated_on": sorted(photographs.calibration), "held_out": sorted(photographs.held_out)}
    draft.card["int8"] = {**verdict.card(), **told}


def make_ready(store: ModelStore) -> None:
    """Builds the kernels, packs and measures language models that no process has measured yet: a first start would
    take long for it, unseen. By a process whose lines go to stderr; what fails there is the service's to say."""
    if any(_waits(store, name) for name in store.names()):
        command = [sys.executable, "-m", "services.generation.prepare", "--store", str(store.root)]
        subprocess.run(command, stdin=subprocess.DEVNULL, check=False)


def _waits(store: ModelStore, name: str) -> bool:
    """Whether the newest version is a language model without figures. Damage is the service's to say."""
    try:
        manifest = store.resolve(name)
        return manifest.runner == "engine" and MEASURED not in store.card(manifest)
    except (DamagedModel, ModelNotFound):
        return False
