"""`maas keys …`: the API keys of callers, in a file that servers follow. Shows a key once; keeps its hash."""

import os
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import tomli_w
import typer

from cli.options import Json
from cli.render import out, print_json, table
from services.runtime.errors import NotFound
from services.runtime.identity import keys

app = typer.Typer(name="keys", help="API keys of callers.", no_args_is_help=True)

File = Annotated[Path, typer.Option("--file", envvar="MAAS_API_KEYS_FILE", help="TOML file that lists the keys.")]
FILE = Path(".maas/keys.toml")


@app.command()
def new(
    tenant: Annotated[str, typer.Option(help="Whose calls it is for.")],
    name: Annotated[str, typer.Option(help="What it is called; unset: as its tenant.")] = "",
    role: Annotated[list[str] | None, typer.Option(help="A role of its holder; may be repeated.")] = None,
    days: Annotated[float | None, typer.Option(min=0, help="How long it is good; unset: for ever.")] = None,
    file: File = FILE,
    json: Json = False,
) -> None:
    """Make a key, print it (this once), list its hash."""
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days) if days is not None else None
    key, entry = keys.new(tenant, name or tenant, role or [], expires)
    tables = _read(file)
    _write(file, tables | {"keys": [*tables.get("keys", []), entry]})
    if json:
        return print_json({"id": entry["id"], "key": key, "tenant": tenant, "expires": _day(expires)})
    return print(key)


@app.command("list")
def listed(file: File = FILE, json: Json = False) -> None:
    """Show whose keys there are."""
    found = [
        {
            "id": key_id,
            "name": key.caller.name,
            "tenant": key.caller.tenant,
            "roles": sorted(key.caller.roles),
            "expires": _day(key.expires),
        }
        for key_id, key in keys.parse(tomli_w.dumps(_read(file))).keys.items()
    ]
    if json:
        return print_json(found)
    rows = [[" ".join(v) if isinstance(v, list) else str(v or "never") for v in one.values()] for one in found]
    return out().print(table(("id", "name", "tenant", "roles", "expires"), rows))


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="Its id, as `list` shows it.")],
    file: File = FILE,
    json: Json = False,
) -> None:
    """Take a key off the list: servers refuse it within seconds."""
    tables = _read(file)
    have = tables.get("keys", [])
    kept = [entry for entry in have if entry["id"] != key_id]
    if len(kept) == len(have):
        raise NotFound("key", key_id, [entry["id"] for entry in have])
    _write(file, tables | {"keys": kept})
    if json:
        print_json({"revoked": key_id, "left": len(kept)})


def _day(expires: datetime | None) -> str | None:
    return str(expires) if expires else None


def _read(file: Path) -> dict[str, Any]:
    """The file's tables, none if there is no file. Raises InvalidInput for one that servers would refuse."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    keys.parse(text)
    return tomllib.loads(text)


def _write(file: Path, tables: dict[str, Any]) -> None:
    """In one step, readable by its owner alone."""
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as writing:
        tomli_w.dump(tables, writing)
        writing.flush()
        os.fsync(writing.fileno())
    aside.replace(file)
