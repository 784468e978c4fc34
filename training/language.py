"""Language models: next-token loss, held-out loss beside baselines, samples, the files of a version.

Knows no architecture and no corpus.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor, nn

from services.generation.models.causal_lm import CausalLM
from services.runtime.errors import InvalidInput
from services.runtime.store.manifest import TokenizerSpec
from services.runtime.text.huggingface import HuggingFaceTokenizer
from services.runtime.text.tokenizer import Tokenizer, tokenizer_digest
from training import metrics
from training.data.cut import named
from training.data.text import Corpus, Document
from training.loop import Job
from training.lora import merged_state
from training.plan import Plan
from training.recipe import Report
from training.sampling import sample

WEIGHTS_FILE = "model.safetensors"
JUDGED_ROWS = 8
Flags = npt.NDArray[np.bool_]


class LanguagePlan(Plan):
    """What every language model recipe lets one choose."""

    data: str = Field("", description="plain text, or JSON lines of texts, to learn instead of the recipe's own")
    context: int = Field(128, ge=2, description="tokens of a training row")
    held_out_tokens: int = Field(20_000, ge=2, description="most test tokens; a quarter of it for validation")
    prompt: str = Field("", description="what the samples at the end go on from")
    max_length: int = Field(48, ge=1, description="tokens of a sample, prompt included")
    num_return_sequences: int = Field(3, ge=0, description="samples at the end")
    temperature: float = Field(0.8, ge=0, description="of the samples; 0 = greedy")


@dataclass(frozen=True, slots=True)
class Origin:
    """What the manifest says of the net besides its weights; `tokenizer` holds the file `tokenizer.json`."""

    architecture: str
    config: Mapping[str, Any]
    tokenizer: bytes
    spec: TokenizerSpec
    licence: str = ""
    notes: str = ""

    def words(self) -> Tokenizer:
        return HuggingFaceTokenizer(self.tokenizer, self.spec, tokenizer_digest(self.tokenizer, self.spec))


@dataclass(frozen=True, slots=True)
class Tokens:
    """A stream of documents, each with the end token behind it: int64 [n], and each token's group."""

    ids: Tensor
    groups: tuple[str, ...]

    @classmethod
    def of(cls, documents: Iterable[Document], words: Tokenizer, most: int | None = None) -> "Tokens":
        """At most the first `most` tokens. Special tokens spelt in a text are ordinary text."""
        ids: list[int] = []
        groups: list[str] = []
        end = [] if words.eos_id is None else [words.eos_id]
        for document in documents:
            new = words.encode_ids(document.text, parse_special=False) + end
            ids += new
            groups += [document.group] * len(new)
            if most is not None and len(ids) >= most:
                break
        return cls(torch.tensor(ids[:most], dtype=torch.int64), tuple(groups[:most]))


class TokenRows:
    """A stream cut into rows of `context` inputs and their successors; a wish for more rows goes round again."""

    def __init__(self, ids: Tensor, context: int, rows: int | None = None) -> None:
        self.context = min(context, len(ids) - 1)
        if self.context < 2:
            raise InvalidInput("data", f"{len(ids)} tokens to train on; 3 are the least")
        self._ids, self._distinct = ids, (len(ids) - 1) // self.context
        self._rows = rows or self._distinct

    def __len__(self) -> int:
        return self._rows

    def take(self, indices: Tensor) -> Tensor:
        """int64 [batch, context + 1]."""
        starts = indices % self._distinct * self.context
        return self._ids[starts.unsqueeze(1) + torch.arange(self.context + 1)]

    def all(self) -> Tensor:
        """Every distinct row in order."""
        return self.take(torch.arange(self._distinct))


def next_token_loss(model: nn.Module, rows: Tensor) -> Tensor:
    """−(1/N) Σ ln p(tokenᵢ | tokens before it), teacher forced (Bengio et al. 2003), from logits.

    rows: int64 [batch, context + 1]. A causal net sees no token it has to predict.
    """
    logits = model(rows[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1).float(), rows[:, 1:].flatten())


@torch.inference_mode()
def judge(model: nn.Module, ids: Tensor, context: int) -> tuple[metrics.Floats, Flags]:
    """−ln p of each token but the first, and whether it was the likeliest: [n − 1] each.

    A token sees those before it in its row of `context`; rows do not overlap, so this is an upper bound.
    """
    model.eval()
    whole = (len(ids) - 1) // context * context
    batches = torch.split(TokenRows(ids, context).all(), JUDGED_ROWS) if whole else ()
    rest = (ids[None, whole:],) if len(ids) - whole > 1 else ()
    parts = [_judge_rows(model, rows) for rows in (*batches, *rest)]
    losses, hits = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    return losses, hits


def _judge_rows(model: nn.Module, rows: Tensor) -> tuple[Tensor, Tensor]:
    logits, truth = model(rows[:, :-1]).flatten(0, 1).float(), rows[:, 1:].flatten()
    return F.cross_entropy(logits, truth, reduction="none"), logits.argmax(-1) == truth


def unigram_cross_entropy(train: Tensor, test: Tensor, vocab_size: int) -> float:
    """−(1/N) Σ ln p(tokenᵢ) with p from the training counts plus one (Laplace): what a model without context
    reaches that has not seen the test tokens. int64 [n] each."""
    counts = torch.bincount(train, minlength=vocab_size).double() + 1
    return float(-(counts / counts.sum()).log()[test].mean())


def judged(model: nn.Module, ids: Tensor, context: int) -> dict[str, float]:
    """Mean loss, perplexity and accuracy of `judge`."""
    return _told(*judge(model, ids, context))


def initialise(model: nn.Module) -> None:
    """GPT-2's start (Radford et al. 2019, §2.3): N(0, 0.02²), and the layers that add to the residual stream
    narrower by 1/√(2·layers); biases 0. A wider start of embeddings that are also the head costs many steps."""
    layers = sum(name.endswith(".c_proj.weight") for name, _ in model.named_parameters())
    for name, value in model.named_parameters():
        if value.dim() == 2:
            nn.init.normal_(value, std=0.02 / (layers**0.5 if name.endswith(".c_proj.weight") else 1))


@dataclass
class LanguageTraining:
    """A causal net on one corpus. `rows`: training rows of an epoch, None = the whole text once. `before()` judges
    on the test rows what it began from, where it began from something."""

    net: CausalLM
    corpus: Corpus
    origin: Origin
    plan: LanguagePlan
    rows: int | None = None
    before: Callable[[], Mapping[str, float]] = dict

    def __post_init__(self) -> None:
        self.words = self.origin.words()
        self.train = Tokens.of(self.corpus.train, self.words)
        # Choosing an epoch takes fewer tokens than the one final figure.
        self.validation = Tokens.of(self.corpus.validation, self.words, max(2, self.plan.held_out_tokens // 4))
        self.test = Tokens.of(self.corpus.test, self.words, self.plan.held_out_tokens)

    @property
    def job(self) -> Job:
        return Job(
            self.net, TokenRows(self.train.ids, self.plan.context, self.rows), next_token_loss, self._validate
        )

    def evaluate(self, model: nn.Module) -> Report:
        """Loss, perplexity and accuracy on test tokens, beside the unigram entropy of those very tokens: what
        the best model that knows their frequencies and no context would reach."""
        losses, hits = judge(model, self.test.ids, self.plan.context)
        counts = np.bincount(self.test.ids[1:].numpy())
        vocabulary = self.net.config.vocab_size
        unigram = metrics.unigram_entropy(counts.tolist())
        details = {
            "test_tokens": len(losses),
            "unigram_entropy": unigram,
            "unigram_cross_entropy": unigram_cross_entropy(self.train.ids, self.test.ids[1:], vocabulary),
            "left_out": named(self.corpus.dropped),
            "samples": self.samples(model),
        }
        told = {"loss": unigram, "accuracy": float(counts.max() / counts.sum())} | dict(self.before())
        return Report(_told(losses, hits), _with_perplexity(told), self._slices(losses, hits), details)

    def samples(self, model: nn.Module) -> list[str]:
        """`num_return_sequences` texts of `max_length` tokens at most, cut at the end token."""
        plan, end = self.plan, self.words.eos_id
        if not plan.num_return_sequences:
            return []
        assert isinstance(model, CausalLM)
        prompt = self.words.encode_ids(plan.prompt) or [0 if end is None else end]
        rows = sample(model, prompt, plan.max_length, plan.num_return_sequences, plan.temperature, plan.seed)
        grown = (row[len(prompt) :] for row in rows)
        cut = (row[: row.index(end)] if end in row else row for row in grown)
        return [plan.prompt + self.words.decode(row) for row in cut]

    def fields(self) -> dict[str, Any]:
        origin, corpus, context = self.origin, self.corpus, self.net.config.max_position_embeddings
        notes = "; ".join(filter(None, (origin.notes, corpus.told())))
        return {
            "tasks": ["generation.generate", "tokenization.tokenize"],
            "architecture": origin.architecture,
            "config": dict(origin.config),
            "tokenizer": origin.spec.model_dump(),
            "limits": {"max_tokens": context},
            "runner": "engine",
            "licence": origin.licence,
            "provenance": {"source": corpus.source, "sha256": corpus.sha256, "notes": notes},
        }

    def data(self) -> dict[str, Any]:
        return {"parts": self.corpus.parts(), "left_out": dict(self.corpus.dropped)}

    def labels(self) -> tuple[str, ...]:
        return ()

    def write(self, model: nn.Module, directory: Path) -> None:
        """Weights, adapters merged into them, and the tokenizer."""
        weights = {key: value.detach().cpu().contiguous() for key, value in merged_state(model).items()}
        save_file(weights, directory / WEIGHTS_FILE)
        (directory / self.origin.spec.file).write_bytes(self.origin.tokenizer)

    def _validate(self, model: nn.Module) -> dict[str, float]:
        found = judged(model, self.validation.ids, self.plan.context)
        return {**found, "score": -found["loss"]}

    def _slices(self, losses: metrics.Floats, hits: Flags) -> dict[str, dict[str, dict[str, float]]]:
        groups = np.asarray(self.test.groups[1:])
        names = np.unique(groups)
        if len(names) < 2:
            return {}
        rows = {str(name): groups == name for name in names}
        return {"group": {n: {**_told(losses[r], hits[r]), "count": float(r.sum())} for n, r in rows.items()}}


def _told(losses: metrics.Floats, hits: Flags) -> dict[str, float]:
    return _with_perplexity({"loss": float(losses.mean()), "accuracy": float(hits.mean())})


def _with_perplexity(found: Mapping[str, float]) -> dict[str, float]:
    return {**found, "perplexity": metrics.perplexity(found["loss"])}
