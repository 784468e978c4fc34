"""What `model.toml` says of one model version. Plain data: no torch, no I/O, no gRPC."""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"

Task = Literal[
    "tokenization.tokenize",
    "vision.classify",
    "vision.embed",
    "sequence.classify",
    "sequence.embed",
    "sequence.transduce",
    "sequence.forecast",
    "sequence.session",
    "generation.generate",
    "generation.adapter",
]


def adapted_digest(base: str, adapter: str) -> str:
    """What decides an answer of a model with an adapter: both digests."""
    return "sha256:" + hashlib.sha256(f"{base} {adapter}".encode()).hexdigest()


class Frozen(BaseModel):
    """Immutable, and strict about unknown keys so that a misspelt one is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorSpec(Frozen):
    """One input or output: -1 in `shape` is a free axis."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class TokenizerSpec(Frozen):
    """Which file holds the tokenizer and how text meets it.

    kind `huggingface` reads tokenizer.json, kind `sentencepiece` reads tokenizer.model.
    """

    kind: Literal["huggingface", "sentencepiece"] = "huggingface"
    file: str = "tokenizer.json"
    chat_template: str | None = None
    bos_token: str | None = None
    eos_token: str | None = None
    pad_token: str | None = None
    unk_token: str | None = None
    max_length_tokens: int | None = None

    @property
    def chat_tells_time(self) -> bool:
        """Whether a prompt depends on when it is rendered: `strftime_now` is all that templates know of time."""
        return "strftime_now" in (self.chat_template or "")


class Provenance(Frozen):
    """Where the files came from: a source URL (`pypi:pkg==1.0:path`) and the hash of the original."""

    source: str = ""
    sha256: str = ""
    notes: str = ""


class Manifest(Frozen):
    """One version of one model. `digest` names what decides an answer, nothing else."""

    name: str = Field(pattern=NAME_PATTERN)
    version: int = Field(ge=1)
    tasks: tuple[Task, ...]
    architecture: str = ""
    description: str = ""
    config: dict[str, Any] = {}
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    preprocessing: dict[str, Any] = {}
    labels: str | None = None
    tokenizer: TokenizerSpec | None = None
    limits: dict[str, int] = {}
    runner: Literal["torch", "onnxruntime", "engine", "vllm", "none"] = "torch"
    precision: str = "fp32"
    packed: str = ""
    licence: str = ""
    provenance: Provenance = Provenance()
    files: dict[str, str] = {}

    @cached_property
    def digest(self) -> str:
        """sha256 over weights, tokenizer, preprocessing, labels, architecture, runner and precision, and over
        what a process made of the weights and computes with in their stead (`packed`, of a loaded version only).

        Name, version, descriptions, limits and provenance stay out: they change no answer. Made once:
        every reply names it.
        """
        chosen = self.model_dump(
            mode="json",
            include={
                "tasks",
                "architecture",
                "config",
                "preprocessing",
                "labels",
                "tokenizer",
                "runner",
                "precision",
                "files",
            },
        )
        if self.packed:
            chosen["packed"] = self.packed
        canonical = json.dumps(chosen, sort_keys=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other fields has its own digest, which the library would carry over."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("digest", None)
        return copied

    def serves(self, area: str) -> bool:
        """Whether any task belongs to the service `area` (`vision`, `sequence`, …)."""
        return any(task.startswith(area + ".") for task in self.tasks)
