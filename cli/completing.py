"""What a shell may complete: names that stand in the store. Prints nothing, and no error."""

from pathlib import Path

import typer

from cli.options import ROOT
from services.runtime.store.store import ModelStore


def stored_models(context: typer.Context, incomplete: str) -> list[str]:
    """Models of the store that the line, the environment or the default names."""
    named = context.params.get("root") or ROOT
    return [name for name in ModelStore(Path(named)).names() if name.startswith(incomplete)]
