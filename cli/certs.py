"""`maas certs …`: certificates for development, signed by an authority of one's own."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cli.authority import CERTIFICATE, KEY, Authority
from cli.options import Json
from cli.render import out, print_json, table
from services.runtime.errors import InvalidInput
from services.runtime.tls import material

app = typer.Typer(name="certs", help="Certificates for development: TLS and mutual TLS.", no_args_is_help=True)

Directory = Annotated[Path, typer.Option("--directory", envvar="MAAS_CERTS", help="Where they are kept.")]
Days = Annotated[float, typer.Option(min=0.001, help="How long it is good.")]
DIRECTORY, SERVER = Path(".maas/certs"), "server"
HOSTS = ("localhost", "127.0.0.1", "::1")
RESERVED = frozenset({Path(CERTIFICATE).stem, SERVER})


@app.command()
def server(
    host: Annotated[list[str] | None, typer.Option(help="A name or address it is for; may be repeated.")] = None,
    days: Days = 90,
    directory: Directory = DIRECTORY,
    json: Json = False,
) -> None:
    """Make, or renew, the certificate of this machine's servers; running ones take it within seconds."""
    _show(*Authority(directory).issue(SERVER, host or HOSTS, days), directory, json)


@app.command()
def client(
    name: Annotated[str, typer.Argument(help="Whose it is: `maas:NAME` is its URI, NAME its common name.")],
    days: Days = 90,
    directory: Directory = DIRECTORY,
    json: Json = False,
) -> None:
    """Make, or renew, the certificate of a caller."""
    if name in RESERVED or not name.replace("-", "").replace("_", "").isalnum():
        raise InvalidInput("name", f"{name!r} is not free: take letters, digits, - and _")
    _show(*Authority(directory).issue(name, [], days), directory, json)


@app.command("list")
def listed(directory: Directory = DIRECTORY, json: Json = False) -> None:
    """Show which there are and until when they are good."""
    found = {path.stem: _life(path) for path in sorted(directory.glob("*.pem"))}
    if json:
        return print_json([{"name": name, **_told(life)} for name, life in found.items()])
    return out().print(table(("name", "good until"), [(name, _words(life)) for name, life in found.items()]))


def ensure(directory: Path) -> dict[str, str]:
    """Settings by which a suite speaks TLS on every port; certificates are made where there are none."""
    authority = Authority(directory)
    chain, key = directory / f"{SERVER}.pem", directory / f"{SERVER}.key"
    if not chain.exists():
        authority.issue(SERVER, HOSTS, 90)
    return {
        "MAAS_TLS_CERTIFICATE": str(chain.absolute()),
        "MAAS_TLS_KEY": str(key.absolute()),
        "MAAS_TLS_AUTHORITY": str((directory / CERTIFICATE).absolute()),
    }


def _show(chain: Path, key: Path, directory: Path, json: bool) -> None:
    made = {"CERTIFICATE": chain, "KEY": key, "AUTHORITY": directory / CERTIFICATE}
    named = {f"MAAS_TLS_{name}": str(path) for name, path in made.items()}
    if json:
        return print_json(named)
    for name, path in named.items():
        out().print(f"{name}={path}", soft_wrap=True, highlight=False)
    return None


def _life(path: Path) -> datetime | str:
    """Its end, or what is wrong with it."""
    key = path.with_name(KEY) if path.name == CERTIFICATE else path.with_suffix(".key")
    try:
        expires = material.read(path, key, None).expires
    except InvalidInput as problem:
        return problem.message
    assert expires is not None
    return expires


def _words(life: datetime | str) -> str:
    return life if isinstance(life, str) else f"{life:%Y-%m-%d} ({(life - datetime.now(UTC)).days} days)"


def _told(life: datetime | str) -> dict[str, str | None]:
    ends = None if isinstance(life, str) else life.isoformat()
    return {"good_until": ends, "problem": life if isinstance(life, str) else None}
