"""A tokenizer alone: tokenizer.json, a SentencePiece model, or tiktoken ranks. Holds no weights."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.runtime.store.importers.inputs import Files, only

JSON_FILE, MODEL_FILE = "tokenizer.json", "tokenizer.model"


def run(files: Files, directory: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Write the tokenizer into `directory`; manifest fields.

    For tiktoken ranks `options["special_tokens"]` maps token → id and `options["pattern"]` is the
    splitting regex (none: GPT-2's).
    """
    path = only(files, ".json", ".model", ".tiktoken")
    name = next(name for name, where in files.items() if where == path)
    if name.endswith(".model"):
        shutil.copyfile(path, directory / MODEL_FILE)
        return {"tokenizer": {"kind": "sentencepiece", "file": MODEL_FILE}, "runner": "none"}
    if name.endswith(".tiktoken"):
        _from_ranks(path, options).save(str(directory / JSON_FILE))
    else:
        shutil.copyfile(path, directory / JSON_FILE)
    return {"tokenizer": {"kind": "huggingface", "file": JSON_FILE}, "runner": "none"}


def _from_ranks(path: Path, options: Mapping[str, Any]) -> Any:
    from services.runtime.text.build import from_tiktoken

    return from_tiktoken(path, options.get("special_tokens", {}), options.get("pattern"))
