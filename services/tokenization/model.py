"""What the service keeps of a model version: its tokenizer and chat template. Knows no proto."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from services.runtime.errors import PreconditionFailed
from services.runtime.store.manifest import Manifest
from services.runtime.text import chat, tokenizer
from services.runtime.text.chat import ChatTemplate, Message
from services.runtime.text.tokenizer import Tokenizer
from services.tokenization.words import Words

TASK = "tokenization.tokenize"
SAMPLE = "The quick brown fox, 12 times."


@dataclass(frozen=True, slots=True)
class TokenizationModel:
    """One loaded version; immutable, so any number of calls share it."""

    manifest: Manifest
    tokenizer: Tokenizer
    template: ChatTemplate | None
    words: Words

    def require_template(self) -> ChatTemplate:
        """The chat template, or PreconditionFailed if the model has none."""
        if self.template is None:
            raise PreconditionFailed(
                f"model {self.manifest.name!r} has no chat template", reason="NO_CHAT_TEMPLATE"
            )
        return self.template

    async def warm_up(self) -> None:
        """Encodes and decodes a sample; raises PreconditionFailed if nothing of it comes back."""
        ids = self.tokenizer.encode_ids(SAMPLE)
        if not self.tokenizer.decode(ids, skip_special_tokens=False).strip():
            raise PreconditionFailed("the tokenizer does not give its sample text back", reason="BAD_TOKENIZER")
        if self.template is not None:
            self.template.encode([Message("user", SAMPLE)])

    async def close(self) -> None:
        """Nothing to end: memory goes with the last reference."""


def files(manifest: Manifest) -> list[str]:
    """The files of a version that a tokenizer reads: never the weights beside it."""
    return [manifest.tokenizer.file] if manifest.tokenizer else []


async def load(memo_bytes: int, kernels: Path, manifest: Manifest, directory: Path) -> TokenizationModel:
    """Reads tokenizer and template of a version, on a thread.

    memo_bytes: for the words it will remember. kernels: where native models are built.
    """
    return await asyncio.to_thread(_load, memo_bytes, kernels, manifest, directory)


def _load(memo_bytes: int, kernels: Path, manifest: Manifest, directory: Path) -> TokenizationModel:
    loaded = tokenizer.load(manifest, directory)
    template = chat.load(manifest.tokenizer, loaded)
    return TokenizationModel(manifest, loaded, template, Words(loaded, memo_bytes, kernels))
