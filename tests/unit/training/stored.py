"""Small nets with fixed random weights as versions of a store, and the truth that nobody's judge has computed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer as Library
from torch import nn

from services.generation.models import registry as generation
from services.runtime.store.manifest import Manifest
from services.runtime.store.store import ModelStore
from services.sequence.models import spread
from services.sequence.models.bert import BertForSequenceClassification
from services.sequence.models.lstm import LstmClassifier
from services.sequence.models.rnn import RnnForecaster
from services.sequence.models.scaling import Scaling
from tests.unit.runtime.text import made
from training.data.mnist import Fetch
from training.evaluation import evaluate
from training.judges.subject import Question
from training.publish import write_weights
from training.recipe import Report
from training.recipes.bert_classify import manifest_fields as text_fields
from training.recipes.bert_classify import tokenizer_spec
from training.recipes.lstm_classify import manifest_fields as series_fields

CUT, WINDOW = 7, 4
GPT2 = "GPT2LMHeadModel"
SCALING = Scaling((2.0, -1.0), (3.0, 0.5))


class NoFetch:
    """A user's own data need nothing fetched."""

    def fetch(self, source: str, sha256: str) -> Path:
        raise AssertionError(source)


class Stored:
    """One published version and its net."""

    def __init__(self, root: Path, net: nn.Module, fields: dict[str, Any], **more: Any) -> None:
        self.store, self.net = ModelStore(root), net.eval()
        self.manifest = self._publish(fields, **more)

    def _publish(
        self,
        fields: dict[str, Any],
        labels: Sequence[str] = (),
        library: Library | None = None,
        source: str = "file:own",
        sha256: str = "",
        plan: dict[str, Any] | None = None,
        name: str = "small",
        errors: NDArray[np.float32] | None = None,
    ) -> Manifest:
        with self.store.publish(name) as draft:
            write_weights(self.net, draft.directory)
            if errors is not None:
                spread.save(errors, draft.directory)
            if labels:
                (draft.directory / "labels.txt").write_text("\n".join(labels) + "\n")
                draft.fields["labels"] = "labels.txt"
            if library is not None:
                library.save(str(draft.directory / "tokenizer.json"))
            draft.fields.update(fields, provenance={"source": source, "sha256": sha256})
            draft.card["plan"] = plan or {}
        assert draft.published is not None
        return draft.published

    def evaluate(self, data: Path | str, fetcher: Fetch | None = None, **asked: Any) -> Report:
        question = Question(str(data), threads=1, **asked)
        return evaluate(self.manifest, self.store.directory(self.manifest), question, fetcher or NoFetch())


def series_classifier(
    root: Path,
    columns: Sequence[str] = (),
    labels: Sequence[str] = ("falling", "rising"),
    scaling: Scaling = SCALING,
    **more: Any,
) -> Stored:
    """Tells falling from rising, or so it might, had it learnt."""
    torch.manual_seed(3)
    config = {"features": len(scaling.mean), "hidden_sizes": [8, 5], "classes": len(labels)}
    fields = {"tasks": ["sequence.classify"], **series_fields(config, scaling, columns)}
    return Stored(root, LstmClassifier(config), fields, labels=labels, **more)


def text_classifier(root: Path, **more: Any) -> Stored:
    """Reads seven tokens, says ham or spam."""
    torch.manual_seed(4)
    config = {
        "vocab_size": 120, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 16, "num_labels": 2,
    }  # fmt: skip
    fields = {"tasks": ["sequence.classify"], **text_fields(config, CUT, tokenizer_spec("tokenizer.json"))}
    library = made.word_piece()
    return Stored(
        root, BertForSequenceClassification(config), fields, labels=("ham", "spam"), library=library, **more
    )


def forecaster(root: Path, features: int = 1, columns: Sequence[str] = (), **more: Any) -> Stored:
    """Looks at four steps."""
    torch.manual_seed(5)
    config = {"features": features, "hidden_size": 6}
    scaling = Scaling((10.0,) * features, (4.0,) * features)
    fields = {
        "tasks": ["sequence.forecast"], "architecture": "rnn_forecaster", "config": config,
        "inputs": [{"name": "window", "dtype": "float32", "shape": [-1, WINDOW, features]}],
        "outputs": [{"name": "next", "dtype": "float32", "shape": [-1, features]}],
        "preprocessing": {
            "kind": "series", **scaling.fields(), **({"columns": list(columns)} if columns else {}),
        },
    }  # fmt: skip
    return Stored(root, RnnForecaster(config), fields, **more)


def language_model(root: Path, positions: int = 16, width: int = 16, **more: Any) -> Stored:
    """Few positions, byte-level BPE; two heads."""
    torch.manual_seed(6)
    library = made.byte_level()
    config = {
        "vocab_size": library.get_vocab_size(), "n_embd": width, "n_layer": 1, "n_head": 2,
        "n_positions": positions,
    }  # fmt: skip
    net = generation.build(GPT2, config)
    for weights in net.parameters():
        nn.init.normal_(weights, std=0.3)
    fields = {
        "tasks": ["generation.generate"], "architecture": GPT2, "config": config, "runner": "engine",
        "tokenizer": {"eos_token": "<|endoftext|>"},
    }  # fmt: skip
    return Stored(root, net, fields, library=library, **more)
