"""The service's own engine, driven in a plain loop, without gRPC: `python -m … MODEL`, settings as ever."""

import sys
from collections.abc import Callable

import torch

from services.generation.engine.blocks import BlockPool
from services.generation.engine.engine import Engine
from services.generation.engine.request import Request, Stopping
from services.generation.engine.scheduler import Limits, Scheduler
from services.generation.job import Job
from services.generation.precision import prepare
from services.generation.settings import GenerationSettings
from services.runtime.store.store import ModelStore
from services.runtime.text import tokenizer
from services.runtime.text.tokenizer import Tokenizer
from tests.bench.peers.burst import Burst, Outcome, Progress, serve


def load(model: str, settings: GenerationSettings) -> tuple[Engine, Tokenizer]:
    """As the service does it."""
    store = ModelStore(settings.store)
    manifest = store.resolve(model)
    directory = store.directory(manifest)
    prepared = prepare(manifest, directory, settings)
    torch.set_num_threads(prepared.threads)
    limits = Limits(settings.batch_tokens, settings.batch_sequences)
    scheduler = Scheduler(BlockPool(prepared.blocks, prepared.block_size), limits)
    context = prepared.config.max_position_embeddings
    return Engine(scheduler, prepared.runner, context), tokenizer.load(manifest, directory)


def play(engine: Engine, words: Tokenizer, burst: Burst) -> Outcome:
    """Tokens and their text, as for an answer."""
    progress = Progress(burst)
    jobs = [Job(Request(tuple(one.ids), stopping=Stopping(max_tokens=one.new_tokens))) for one in burst.prompts]
    places = {}
    for place, job in enumerate(jobs):
        sequences = job.sequences(words)
        places[id(sequences[0])] = place
        engine.add(list(sequences))
    while engine.busy:
        for delta in engine.step():
            if delta.error:
                raise delta.error
            progress.add(places[id(delta.sequence)], *delta.token_ids)
    return progress.outcome()


def main() -> None:
    def ready() -> Callable[[Burst], Outcome]:
        engine, words = load(sys.argv[1], GenerationSettings())
        return lambda burst: play(engine, words, burst)

    serve(ready)


if __name__ == "__main__":
    main()
