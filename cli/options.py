"""Options that several commands share, with the variables they may come from."""

from pathlib import Path
from typing import Annotated

import typer

Root = Annotated[Path, typer.Option("--root", envvar="MAAS_STORE", help="Root of the model store.")]
Cache = Annotated[Path, typer.Option("--cache", envvar="MAAS_CACHE_DIR", help="Where downloads are kept.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

ROOT = Path(".maas/store")
CACHE = Path("~/.cache/maas")
