"""What the service keeps of a model version: tokenizer, template, engine. Knows no proto."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from services.generation.backend import Backend
from services.generation.engine.bad_words import Vocabulary
from services.generation.engine.blocks import BlockPool
from services.generation.engine.engine import Engine
from services.generation.engine.request import Request, Stopping
from services.generation.engine.scheduler import Limits, Scheduler
from services.generation.job import Job
from services.generation.precision import Prepared, prepare
from services.generation.settings import GenerationSettings
from services.generation.stream import Observer, TokenStream
from services.generation.worker import EngineWorker
from services.runtime.errors import PreconditionFailed
from services.runtime.store.manifest import Manifest
from services.runtime.text import chat, tokenizer
from services.runtime.text.chat import ChatTemplate
from services.runtime.text.tokenizer import Tokenizer

R = TypeVar("R")

INLINE_SIZE = 1000  # converting less takes about as long as handing it to a thread
WARM_UP_TOKENS = 4


@dataclass(frozen=True, slots=True)
class GenerationModel:
    """One loaded version. `context`: most tokens, prompt included, of one sequence. `spoken` and `shown`: what
    each token adds to a text, without and with special tokens.
    """

    manifest: Manifest
    tokenizer: Tokenizer
    template: ChatTemplate | None
    spoken: Vocabulary
    shown: Vocabulary
    vocab_size: int
    eos_token_ids: frozenset[int]
    context: int
    worker: Backend
    threads: ThreadPoolExecutor

    def require_template(self) -> ChatTemplate:
        """The chat template, or PreconditionFailed if the model has none."""
        if self.template is None:
            raise PreconditionFailed(
                f"model {self.manifest.name!r} has no chat template; send text or token_ids",
                reason="NO_CHAT_TEMPLATE",
            )
        return self.template

    async def prepare(self, work: Callable[[], R], size: int) -> R:
        """`work()`: at once if `size`, characters read or log probabilities told, is small, else on a thread."""
        if size <= INLINE_SIZE:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self.threads, work)

    @contextmanager
    def open(self, job: Job, *, whole: bool = False) -> Iterator[TokenStream]:
        """The job in the engine, for the length of the block; `whole`: its reader wants nothing before the end."""
        with self.worker.open(job.sequences(self.tokenizer), whole=whole) as stream:
            yield stream

    async def warm_up(self) -> None:
        """Generates a few tokens; raises if the model's numbers are not finite."""
        prompt = tuple(self.tokenizer.encode_ids("Hello")) or (0,)
        with self.open(Job(Request(prompt, stopping=Stopping(max_tokens=WARM_UP_TOKENS)))) as stream:
            total = sum([delta.logprob async for batch in stream.batches() for delta in batch])
        if not total <= 0.0:
            raise PreconditionFailed("the model's answer to a sample is not finite", reason="BAD_WEIGHTS")

    async def close(self) -> None:
        """Ends what still runs, frees the cache."""
        await self.worker.close()
        self.threads.shutdown(wait=False, cancel_futures=True)


async def load(
    manifest: Manifest, directory: Path, settings: GenerationSettings, observer: Observer
) -> GenerationModel:
    """Reads weights, tokenizer and template on a thread; starts the engine."""
    prepared, words, spoken, shown = await asyncio.to_thread(_read, manifest, directory, settings)
    context = min(prepared.config.max_position_embeddings, (prepared.blocks - 1) * prepared.block_size)
    if context < 2:
        raise PreconditionFailed(f"MAAS_KV_CACHE_MIB={settings.kv_cache_mib} holds no block of {manifest.name}")
    engine = _engine(prepared, context, settings)
    return GenerationModel(
        manifest=prepared.manifest,
        tokenizer=words,
        template=chat.load(manifest.tokenizer, words),
        spoken=spoken,
        shown=shown,
        vocab_size=prepared.config.vocab_size,
        eos_token_ids=_end_ids(manifest, words),
        context=context,
        worker=EngineWorker(
            engine,
            f"engine-{manifest.name}",
            observer,
            threads=settings.threads,
            queue_limit=settings.queue_limit,
        ),
        threads=ThreadPoolExecutor(settings.text_threads, thread_name_prefix="generation-text"),
    )


def _read(
    manifest: Manifest, directory: Path, settings: GenerationSettings
) -> tuple[Prepared, Tokenizer, Vocabulary, Vocabulary]:
    words, prepared = tokenizer.load(manifest, directory), prepare(manifest, directory, settings)
    shown = [words.token_bytes(token) for token in range(prepared.config.vocab_size)]
    spoken = [b"" if token in words.special_ids else text for token, text in enumerate(shown)]
    return prepared, words, Vocabulary(spoken), Vocabulary(shown)


def _engine(prepared: Prepared, context: int, settings: GenerationSettings) -> Engine:
    limits = Limits(settings.batch_tokens, settings.batch_sequences, settings.speculation)
    scheduler = Scheduler(BlockPool(prepared.blocks, prepared.block_size), limits)
    return Engine(scheduler, prepared.runner, context)


def _end_ids(manifest: Manifest, words: Tokenizer) -> frozenset[int]:
    """The end tokens that the config and the tokenizer name; configs give one id or a list."""
    named = manifest.config.get("eos_token_id")
    ids = named if isinstance(named, list) else [named]
    return frozenset(one for one in (*ids, words.eos_id) if one is not None)
