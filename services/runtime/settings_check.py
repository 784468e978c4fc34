"""`python -m services.runtime.settings_check MODULE:CLASS…`: whether settings would be accepted. Starts nothing.

A JSON list, an entry each: `problem` (what the program would say before it ended; empty = nothing) and `defaults`
(task → model).
"""

import io
import json
import sys
from collections.abc import Iterable
from contextlib import redirect_stderr
from importlib import import_module
from typing import Any

from services.runtime.settings import load


def check(name: str) -> dict[str, Any]:
    """What the class at `MODULE:CLASS` makes of this process' environment."""
    module, _, wanted = name.partition(":")
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            settings = load(getattr(import_module(module), wanted), [], module.rpartition(".")[0])
    except SystemExit:
        return {"problem": said.getvalue().strip(), "defaults": {}}
    return {"problem": "", "defaults": defaults_of(settings)}


def defaults_of(settings: Any) -> dict[str, str]:
    """Task → model that answers when a request names none."""
    found = dict(getattr(settings, "defaults", {}))
    named = getattr(settings, "tokenize_model", None)
    return found | ({"tokenization": named} if named else {})


def main(names: Iterable[str]) -> None:
    """Prints one JSON list."""
    print(json.dumps([check(name) for name in names]))


if __name__ == "__main__":
    main(sys.argv[1:])
