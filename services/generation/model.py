"""What the service keeps of a model version: tokenizer, template, engine. Knows no proto."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from services.generation.backend import Backend
from services.generation.backends import engine
from services.generation.backends.vllm import start as vllm
from services.generation.engine.adapter import Adapter
from services.generation.engine.bad_words import Vocabulary
from services.generation.engine.request import Request, Stopping
from services.generation.grammars import Grammars
from services.generation.job import Job
from services.generation.settings import GenerationSettings
from services.generation.shelf import Shelf
from services.generation.stream import Observer, TokenStream
from services.runtime.errors import PreconditionFailed
from services.runtime.store.manifest import Manifest, adapted_digest
from services.runtime.text import chat, tokenizer
from services.runtime.text.chat import ChatTemplate
from services.runtime.text.tokenizer import Tokenizer

R = TypeVar("R")

INLINE_SIZE = 1000  # converting less takes about as long as handing it to a thread
WARM_UP_TOKENS = 4
STARTERS = {"engine": engine.start, "vllm": vllm.start}


@dataclass(frozen=True, slots=True)
class GenerationModel:
    """One loaded version. `context`: most tokens, prompt included, of one sequence. `spoken` and `shown`: what
    each token adds to a text, without and with special tokens. `shelf`: None where
    no adapters are taken; `adapter`: that of the call it is leased for.
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
    grammars: Grammars
    shelf: Shelf | None = None
    adapter: Adapter | None = None

    @property
    def digest(self) -> str:
        """Of everything that decides an answer, the adapter of this call included."""
        own = self.manifest.digest
        return own if self.adapter is None else adapted_digest(own, self.adapter.digest)

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
            try:
                yield stream
            finally:
                stream.trace()

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
        self.grammars.close()


async def load(
    manifest: Manifest, directory: Path, settings: GenerationSettings, observer: Observer
) -> GenerationModel:
    """Starts what generates; reads tokenizer and template on a thread."""
    words = await asyncio.to_thread(tokenizer.load, manifest, directory)
    template, ends = chat.load(manifest.tokenizer, words), _end_ids(manifest, words)
    started = await STARTERS[settings.backend](manifest, directory, settings, observer)
    try:
        spoken, shown = await asyncio.to_thread(_vocabularies, words, started.vocab_size)
    except BaseException:  # a cancelled load too
        await started.backend.close()
        raise
    return GenerationModel(
        manifest=started.manifest,
        tokenizer=words,
        template=template,
        spoken=spoken,
        shown=shown,
        vocab_size=started.vocab_size,
        eos_token_ids=ends,
        context=started.context,
        worker=started.backend,
        threads=ThreadPoolExecutor(settings.text_threads, thread_name_prefix="generation-text"),
        grammars=Grammars(words, shown.spellings, words.special_ids | ends, settings.grammars),
        shelf=started.shelf,
    )


def _vocabularies(words: Tokenizer, vocab_size: int) -> tuple[Vocabulary, Vocabulary]:
    """Without and with special tokens."""
    shown = [words.token_bytes(token) for token in range(vocab_size)]
    spoken = [b"" if token in words.special_ids else text for token, text in enumerate(shown)]
    return Vocabulary(spoken), Vocabulary(shown)


def _end_ids(manifest: Manifest, words: Tokenizer) -> frozenset[int]:
    """The end tokens that the config and the tokenizer name; configs give one id or a list."""
    named = manifest.config.get("eos_token_id")
    ids = named if isinstance(named, list) else [named]
    return frozenset(one for one in (*ids, words.eos_id) if one is not None)
