"""Chooses the runner of a freshly imported draft by measuring. The one place where a pull meets the nets."""

from importlib import import_module

from services.runtime.store.publish import Draft


def choose_runner(draft: Draft) -> None:
    """Export the draft's net, measure both runners, write the choice and its figures into the draft."""
    import torch

    from services.runtime.runners.choose import choose
    from services.runtime.runners.samples import synthesise

    torch.set_num_threads(1)
    manifest = draft.manifest(1, {})
    area = manifest.tasks[0].split(".")[0]
    registry = import_module(f"services.{area}.models.registry")
    # Nets that take more than noise (ids, masks, lengths) say themselves what they can be given.
    sampler = getattr(registry, "samples", synthesise)
    choice = choose(registry.load(manifest, draft.directory), manifest, draft.directory, sampler)
    draft.fields["runner"] = choice.runner
    draft.card.update(choice.card())
