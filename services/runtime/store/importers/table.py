"""Importer name → function. Torch is imported by an importer that needs it, when it runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from services.runtime.errors import InvalidInput
from services.runtime.store.importers import gguf, hf_directory, npz, peft, state_dict, tokenizer_file
from services.runtime.store.importers.inputs import Files

# Part of each recipe: raise it when an importer writes other bytes than before.
REVISION = 1


class Importer(Protocol):
    """Writes into a draft's directory and gives the manifest fields it found out."""

    def __call__(self, files: Files, directory: Path, options: Mapping[str, Any]) -> dict[str, Any]: ...


IMPORTERS: Mapping[str, Importer] = {
    "gguf": gguf.run,
    "hf_directory": hf_directory.run,
    "npz": npz.run,
    "peft": peft.run,
    "state_dict": state_dict.run,
    "tokenizer_file": tokenizer_file.run,
}


def importer_for(files: Files) -> str:
    """The importer that fits the files' names. InvalidInput where none does."""
    if peft.CONFIG in files:
        return "peft"
    if "config.json" in files:
        return "hf_directory"
    suffixes = {".gguf": "gguf", ".npz": "npz", **dict.fromkeys(state_dict.SUFFIXES, "state_dict")}
    suffixes |= dict.fromkeys((".json", ".model", ".tiktoken"), "tokenizer_file")
    found = {suffixes[Path(name).suffix] for name in files if Path(name).suffix in suffixes}
    if len(found) != 1:
        known = ", ".join(["a directory with config.json", *suffixes])
        raise InvalidInput("file", f"no importer fits {sorted(files)}; known: {known}")
    return found.pop()
