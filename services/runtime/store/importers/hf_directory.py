"""A Hugging Face directory (config.json, weights, tokenizer) → a draft. Knows file formats, runs no model."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.runtime.errors import InvalidInput
from services.runtime.store.importers import state_dict
from services.runtime.store.importers.hf_tokenizer import tokenizer_fields
from services.runtime.store.importers.inputs import Files
from services.runtime.store.importers.label_file import write_labels

WEIGHTS, INDEX, PICKLE = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"
GENERATION = ["generation.generate", "tokenization.tokenize"]
LANGUAGE_MODEL = {"tasks": GENERATION, "runner": "engine"}
BERT_INPUTS = [
    {"name": name, "dtype": "int64", "shape": [-1, -1]}
    for name in ("input_ids", "attention_mask", "token_type_ids")
]
NOISE = {"architectures", "transformers_version", "torch_dtype", "dtype"}


def run(files: Files, directory: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Write weights and tokenizer into `directory`; manifest fields for config.json's architecture."""
    if "config.json" not in files:
        raise InvalidInput("file", f"config.json is needed, got {sorted(files)}")
    config = json.loads(files["config.json"].read_bytes())
    architecture = (config.get("architectures") or ["none"])[0]
    fields = _task_fields(architecture, config)
    _copy_weights(files, directory)
    context = config.get("max_position_embeddings") or config.get("n_positions")
    return {
        "architecture": architecture,
        "config": {key: value for key, value in config.items() if key not in NOISE and key[0] != "_"},
        "limits": {"max_tokens": context} if context else {},
        **fields,
        **tokenizer_fields(files, directory, context),
        **write_labels(files, directory, {**_class_names(architecture, config), **options}),
    }


def _task_fields(architecture: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Tasks, runner and tensors of each architecture that some service can run."""
    width = config.get("hidden_size")
    if architecture == "BertModel":
        outputs = [_output("last_hidden_state", -1, width), _output("pooler_output", width)]
        tasks = ["sequence.embed", "tokenization.tokenize"]
        return {"tasks": tasks, "inputs": BERT_INPUTS, "outputs": outputs, "preprocessing": {"kind": "text"}}
    if architecture == "BertForSequenceClassification":
        outputs = [_output("logits", len(config.get("id2label") or (0, 1)))]
        tasks = ["sequence.classify", "tokenization.tokenize"]
        return {"tasks": tasks, "inputs": BERT_INPUTS, "outputs": outputs, "preprocessing": {"kind": "text"}}
    known = [
        "GPT2LMHeadModel",
        "LlamaForCausalLM",
        "MistralForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen3ForCausalLM",
    ]
    if architecture not in known:
        bert = ["BertModel", "BertForSequenceClassification"]
        raise InvalidInput("architectures", f"{architecture!r} is not served; known: {', '.join(known + bert)}")
    return dict(LANGUAGE_MODEL)


def _output(name: str, *sizes: Any) -> dict[str, Any]:
    return {"name": name, "dtype": "float32", "shape": [-1, *sizes]}


def _class_names(architecture: str, config: Mapping[str, Any]) -> dict[str, Any]:
    names = config.get("id2label")
    if architecture != "BertForSequenceClassification" or not names:
        return {}
    return {"labels": [names[key] for key in sorted(names, key=int)]}


def _copy_weights(files: Files, directory: Path) -> None:
    """One model.safetensors out of one file, shards, or a checkpoint that holds tensors only."""
    if WEIGHTS in files:
        _check_header(files[WEIGHTS])
        shutil.copyfile(files[WEIGHTS], directory / WEIGHTS)
    elif INDEX in files:
        _merge_shards(files, directory)
    elif PICKLE in files:
        state_dict.save(state_dict.read(files[PICKLE]), directory)
    else:
        raise InvalidInput("file", f"{WEIGHTS}, {INDEX} or {PICKLE} is needed, got {sorted(files)}")


def _check_header(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        raise InvalidInput("file", f"{path.name} is not a safetensors file: {error}") from error


def _merge_shards(files: Files, directory: Path) -> None:
    from safetensors.torch import load_file

    where: Mapping[str, str] = json.loads(files[INDEX].read_bytes())["weight_map"]
    missing = sorted(set(where.values()) - set(files))
    if missing:
        raise InvalidInput("file", f"{INDEX} names shards that are not here: {', '.join(missing)}")
    merged = {}
    for shard in sorted(set(where.values())):
        merged.update(load_file(files[shard]))
    lost = sorted(set(where) - set(merged))
    if lost:
        raise InvalidInput("file", f"{INDEX} names tensors that no shard holds: {', '.join(lost[:8])}")
    state_dict.save(merged, directory)
