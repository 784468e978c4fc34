"""The tokenizer files of a Hugging Face directory → TokenizerSpec fields. Knows no weights."""

import json
import shutil
from pathlib import Path
from typing import Any

from services.runtime.errors import InvalidInput
from services.runtime.store.importers.inputs import Files

ROLES = ("bos_token", "eos_token", "pad_token", "unk_token")
KINDS = {"tokenizer.json": "huggingface", "tokenizer.model": "sentencepiece"}


def tokenizer_fields(files: Files, directory: Path, context: int | None) -> dict[str, Any]:
    """Copy the tokenizer and describe it. InvalidInput where the directory has none."""
    file = next((name for name in KINDS if name in files), None)
    if file is None:
        raise InvalidInput("file", f"{' or '.join(KINDS)} is needed, got {sorted(files)}")
    shutil.copyfile(files[file], directory / file)
    told = _json(files, "special_tokens_map.json") | _json(files, "tokenizer_config.json")
    named = {role: _content(told[role]) for role in ROLES if told.get(role)}
    spec = {"kind": KINDS[file], "file": file, "max_length_tokens": context, **named}
    return {"tokenizer": {**spec, "chat_template": _chat_template(files, told)}}


def _json(files: Files, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(files[name].read_bytes()) if name in files else {}
    return content


def _content(token: Any) -> str:
    """A special token is written plainly, or as an object with its content."""
    return str(token["content"] if isinstance(token, dict) else token)


def _chat_template(files: Files, told: dict[str, Any]) -> str | None:
    """chat_template.jinja wins over tokenizer_config.json; of several named templates, `default`."""
    if "chat_template.jinja" in files:
        return files["chat_template.jinja"].read_text(encoding="utf-8")
    template = told.get("chat_template")
    if isinstance(template, list):
        named = {entry["name"]: entry["template"] for entry in template}
        return named.get("default")
    return template
