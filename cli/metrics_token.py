"""The token that metrics ask for: its file, how it is shown, what to do where it is refused. Asks nobody."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from cli.runfile import Run
from services.runtime.errors import InvalidInput
from services.runtime.telemetry.guard import token

VARIABLE = "MAAS_METRICS_TOKEN_FILE"
OPTION = "--metrics-token-file"
FIELD = "metrics_token_file"

TokenFile = Annotated[
    Path | None,
    typer.Option(
        OPTION, envvar=VARIABLE, help="File of the token that metrics ask for; unset: that of the running suite."
    ),
]


def file_in(environ: Mapping[str, str]) -> str:
    """Where servers of this environment find theirs, from whatever folder; empty: they ask for none."""
    found = environ.get(VARIABLE, "")
    return str(Path(found).absolute()) if found else ""


def chosen(given: Path | None, run: Run | None) -> Path | None:
    """The file that was named, else that of the suite which runs."""
    told = run.metrics_token_file if run is not None else ""
    return given or (Path(told) if told else None)


def header(file: Path | None) -> dict[str, str]:
    """What goes with a request for metrics. Raises InvalidInput for a file of no use."""
    if file is None:
        return {}
    try:
        return {"Authorization": f"Bearer {token(file.read_text())}"}
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is no text"
        raise InvalidInput(FIELD, f"{file}: {why}: name the file that the servers' {VARIABLE} names") from None
    except InvalidInput as error:
        raise InvalidInput(FIELD, f"{file} {error.message.removeprefix(f'{FIELD}: ')}") from None


def refusal(who: Iterable[str], file: Path | None) -> str:
    """What to say where they answered 401."""
    names = ", ".join(who)
    if file is None:
        return f"metrics of {names} ask for a token (401): name its file, by {OPTION} or {VARIABLE}"
    return f"metrics of {names} refuse the token of {file} (401): it must hold what their {VARIABLE} holds"
