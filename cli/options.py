"""Options that several commands share, with the variables they may come from."""

from pathlib import Path
from typing import Annotated

import typer

Root = Annotated[Path, typer.Option("--store", "--root", envvar="MAAS_STORE", help="Root of the model store.")]
Cache = Annotated[Path, typer.Option("--cache", envvar="MAAS_CACHE_DIR", help="Where downloads are kept.")]
Home = Annotated[Path, typer.Option("--home", envvar="MAAS_HOME", help="State, logs and training runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

ROOT = Path(".maas/store")
CACHE = Path("~/.cache/maas")
HOME = Path(".maas")
