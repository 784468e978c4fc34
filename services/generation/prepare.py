"""`python -m services.generation.prepare`: what a first start takes long for, done before it. Serves nothing."""

import logging
import sys

from services.generation.precision import prepare
from services.generation.settings import GenerationSettings
from services.runtime.errors import ServiceError
from services.runtime.settings import load
from services.runtime.store.manifest import Manifest
from services.runtime.store.store import ModelStore

LEAST_KV_MIB = 64  # for measuring; nothing is served


def served(store: ModelStore) -> list[Manifest]:
    """The language models that a service would load: of each the newest version and the labelled ones."""
    names = store.names()
    wanted = {(name, number) for name in names for number in store.labels(name).values()}
    wanted |= {(name, store.versions(name)[-1]) for name in names}
    found = [manifest for manifest in store.manifests() if (manifest.name, manifest.version) in wanted]
    return [manifest for manifest in found if manifest.serves("generation") and manifest.runner == "engine"]


def main(argv: list[str]) -> None:
    """Kernels, packed files and figures of every model, a line a step; what fails is left to the service."""
    settings = load(GenerationSettings, argv, "prepare")
    logging.basicConfig(level=logging.INFO, format="generation: %(message)s", stream=sys.stderr)
    store, small = ModelStore(settings.store), settings.model_copy(update={"kv_cache_mib": LEAST_KV_MIB})
    for manifest in served(store):
        try:
            store.verify(manifest)  # what is packed of damaged files would outlive their repair
            found = prepare(manifest, store.directory(manifest), small)
        except ServiceError as error:
            logging.info("%s: %s", manifest.name, error.message)
            continue
        found.runner.close()
        logging.info("%s/%s is ready in %s", manifest.name, manifest.version, found.manifest.precision)


if __name__ == "__main__":
    main(sys.argv[1:])
