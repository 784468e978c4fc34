"""Language models on held-out text, whatever their tokenizer. Knows no service and no architecture.

The net is the one that the engine serves in full precision, fed whole rows instead of step by step.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from services.generation.appraisal import appraise
from services.generation.figures import told
from services.generation.models import registry
from services.generation.models.causal_lm import CausalLM
from services.runtime.errors import InvalidInput
from services.runtime.text import tokenizer as tokenizers
from services.runtime.text.tokenizer import Tokenizer
from training import metrics
from training.data import json_lines, kjv, text, texts
from training.data.texts import TextRow
from training.judges.subject import LEARNT, Question, Subject, file_of, learnt_from
from training.recipe import Report

KJV = "kjv"
SETS = (KJV,)
BATCH_TOKENS = 512  # logits of one batch: this times the vocabulary
MOST_CONTEXT = 512
MOST_APPRAISED = 8192  # tokens by which precisions are compared: each of them is read twice
PRECISIONS = "precisions"
SAMPLE_SEED = 20_260_103


@dataclass(frozen=True, slots=True)
class Read:
    """The texts to be judged by, in order, and what is told of them."""

    rows: Sequence[TextRow]
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Stream:
    """Texts one after another as `ids` int64 [n], each with the end token behind it and one before the first.

    Of every id but the first: `row`, the text it belongs to, and `spoken`, whether it is a part of it. `sizes`
    are the UTF-8 bytes of each text that `spoken` ids spell.
    """

    ids: Tensor
    row: NDArray[np.int64]
    spoken: NDArray[np.bool_]
    sizes: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Judged:
    """−ln p of every id of a stream but the first, and whether it was the likeliest: [n − 1] each."""

    stream: Stream
    nats: NDArray[np.floating]
    hits: NDArray[np.bool_]

    def told(self, rows: NDArray[np.bool_]) -> dict[str, float]:
        """Of the texts chosen by `rows` bool [texts]."""
        at = rows[self.stream.row]
        loss = float(self.nats[at].mean())
        return {
            "loss": loss,
            "perplexity": metrics.perplexity(loss),
            "accuracy": float(self.hits[at].mean()),
            "bits_per_byte": bits_per_byte(self.nats[at & self.stream.spoken], self.stream.sizes[rows]),
        }

    def group(self, rows: NDArray[np.bool_]) -> dict[str, float]:
        """The same, how many texts told it, for they are what was drawn, and in how many tokens."""
        count, tokens = float(rows.sum()), float(rows[self.stream.row].sum())
        return {**self.told(rows), "count": count, "tokens": tokens}


def bits_per_byte(nats: NDArray[Any], sizes: NDArray[np.int64]) -> float:
    """Σ −ln p(tokenᵢ) / (ln 2 · UTF-8 bytes of the text): what a byte costs, whatever the tokens are. So models
    with different tokenizers compare (Gao et al. 2020, arXiv:2101.00027, §3.1)."""
    return float(nats.sum() / (log(2) * max(1, int(sizes.sum()))))


def judge(subject: Subject, question: Question) -> Report:
    """Loss, perplexity, accuracy and bits per byte of the text, beside what the best model that knows these very
    tokens' frequencies and no context would reach; the same by group."""
    _use_threads(question.threads)
    found = _sampled(_read(subject, question), question.characters)
    net = registry.load(subject.manifest, subject.directory)
    words, context = tokenizers.load(subject.manifest, subject.directory), context_of(subject, question, net)
    stream = stream_of([row.text for row in found.rows], words)
    judged = Judged(stream, *nats(net, stream.ids, context, subject.tell))
    every = judged.told(np.ones(len(found.rows), np.bool_))
    unigram = Judged(stream, *_unigram(stream)).told(np.ones(len(found.rows), np.bool_))
    details = {
        **found.details,
        "tokens": len(judged.nats),
        "context": context,
        "unigram_entropy": unigram["loss"],
    }
    if question.precisions:
        details[PRECISIONS] = _appraised(subject, question, stream, context)
    return Report(every, unigram, _slices(judged, found.rows, question.slices), details)


def _appraised(subject: Subject, question: Question, stream: Stream, context: int) -> dict[str, Any]:
    """Of the first MOST_APPRAISED tokens, by the engine's own way through the net."""
    ids, threads = stream.ids[: MOST_APPRAISED + 1].tolist(), question.threads or len(os.sched_getaffinity(0))
    found = appraise(subject.manifest, subject.directory, ids, context, threads, subject.tell)
    return told(found, Path(question.data).name, len(ids) - 1, context)


def context_of(subject: Subject, question: Question, net: CausalLM) -> int:
    """Tokens seen at once. InvalidInput for more than the net has positions."""
    most = net.config.max_position_embeddings
    if question.context > most:
        raise InvalidInput(
            "context", f"is {question.context}; {subject.manifest.name} reads {most} tokens at most"
        )
    return question.context or min(most, int(subject.plan.get("context", MOST_CONTEXT)))


def stream_of(chosen: Sequence[str], words: Tokenizer) -> Stream:
    """Special tokens spelt in a text are ordinary text. InvalidInput for texts of no token."""
    mark = words.eos_id if words.eos_id is not None else words.bos_id
    end = [] if mark is None else [mark]
    ids, rows = list(end), [0] * len(end)
    for row, one in enumerate(chosen):
        new = words.encode_ids(one, parse_special=False) + end
        ids += new
        rows += [row] * len(new)
    if len(ids) < 2:
        raise InvalidInput("data", f"gives {len(ids)} tokens; two are the least to judge one")
    sizes = np.array([len(one.encode()) for one in chosen], np.int64)
    if mark is None:  # nothing stands before the first token: it is no target
        sizes[rows[0]] -= len(words.token_bytes(ids[0]))
    told = np.array(sorted({*words.special_ids, *end}), np.int64)
    targets = np.array(ids[1:], np.int64)
    return Stream(torch.tensor(ids), np.array(rows[1:], np.int64), ~np.isin(targets, told), sizes)


@torch.inference_mode()
def nats(
    net: CausalLM, ids: Tensor, context: int, tell: Callable[[int, int | None], None]
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """−ln p of each id but the first, and whether it was the likeliest: [n − 1] each.

    An id sees those before it in its row of `context`; rows do not overlap, so this is an upper bound.
    """
    targets = len(ids) - 1
    whole = targets // context * context
    rows = [ids[at : at + context + 1] for at in range(0, whole, context)]
    batches = [torch.stack(part) for part in _parts(rows, max(1, BATCH_TOKENS // context))]
    batches += [ids[None, whole:]] if whole < targets else []
    found: list[tuple[Tensor, Tensor]] = []
    done = 0
    for batch in batches:
        logits, truth = net(batch[:, :-1]).flatten(0, 1).float(), batch[:, 1:].flatten()
        found.append((F.cross_entropy(logits, truth, reduction="none"), logits.argmax(-1) == truth))
        done += len(truth)
        tell(done, targets)
    losses, hits = (torch.cat(column).numpy() for column in zip(*found, strict=True))
    return losses, hits


def _parts(rows: Sequence[Tensor], size: int) -> list[list[Tensor]]:
    return [list(rows[at : at + size]) for at in range(0, len(rows), size)]


def _unigram(stream: Stream) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """As `nats`, of a model that says each token by its frequency among these very targets."""
    targets = stream.ids[1:].numpy()
    counts = np.bincount(targets)
    return -np.log(counts[targets] / len(targets)), targets == counts.argmax()


def _slices(
    judged: Judged, rows: Sequence[TextRow], asked: Sequence[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """By every column that tells more than one group or is asked for; a group without a token is left out."""
    columns = texts.slices(rows)
    if any(row.label for row in rows):
        columns["label"] = [row.label or texts.UNKNOWN for row in rows]
    judged_rows = np.bincount(judged.stream.row, minlength=len(rows)) > 0
    found = {}
    for name, values in columns.items():
        groups = np.asarray(values)
        here = [group for group in dict.fromkeys(values) if (judged_rows & (groups == group)).any()]
        if len(here) > 1 or name in asked:
            found[name] = {group: judged.group(groups == group) for group in here}
    return found


def _read(subject: Subject, question: Question) -> Read:
    """The test documents of the named corpus, or of a file that the model learnt from; else all of the file."""
    if question.data == KJV:
        corpus = kjv.load(subject.fetcher)
        return Read([_row(document) for document in corpus.test], {"left_out": corpus.dropped})
    path = file_of(question, SETS)
    documents, left_out, file = text.documents(path)
    if learnt_from(subject, question, file.sha256):
        rows = [_row(document) for document in text.load(path).test]
        return Read(rows, {"left_out": left_out, "note": LEARNT})
    if path.suffix.lower() in text.ROWS:
        return Read(json_lines.load(path, labelled=False).rows, {"left_out": left_out})
    return Read([_row(document) for document in documents], {"left_out": left_out})


def _row(document: text.Document) -> TextRow:
    return TextRow(document.text, groups={"group": document.group} if document.group else {})


def _sampled(found: Read, most: int) -> Read:
    """As many texts as reach `most` characters: a fixed sample, in its own order; the last drawn is cut."""
    order, room = np.random.default_rng(SAMPLE_SEED).permutation(len(found.rows)).tolist(), most or None
    kept: dict[int, TextRow] = {}
    for place in order:
        if room == 0:
            break
        row = replace(found.rows[place], text=found.rows[place].text[:room])
        kept[place] = row
        room = None if room is None else room - len(row.text)
    rows = [kept[place] for place in sorted(kept)]
    told = {"texts": len(rows), "of_texts": len(found.rows), "characters": sum(len(row.text) for row in rows)}
    return Read(rows, {**found.details, **told})


def _use_threads(threads: int) -> None:
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
