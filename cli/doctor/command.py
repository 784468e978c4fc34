"""`maas doctor`: every check in turn, what each found, and the fix. Changes nothing but what is compiled once."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape

from cli import runfile
from cli.doctor import certificates, files, machine, models, native, ports, python, redis, settings, suite, tools
from cli.doctor.around import Around
from cli.doctor.finding import Finding, Findings, guarded
from cli.options import HOME, ROOT, Home, Json, Root
from cli.program import PORTS
from cli.render import err, out, print_json
from services.runtime.errors import NotFound

Check = Callable[[Around], Findings]

CHECKS: dict[str, Check] = {
    "python": python.interpreter,
    "packages": python.packages,
    "files": machine.files,
    "memory": machine.memory,
    "disk": machine.disk,
    "threads": machine.threads,
    "ports": ports.ports,
    "store": models.store,
    "versions": models.versions,
    "labels": models.labels,
    "settings": settings.settings,
    "identity": files.identity,
    "certificates": certificates.certificates,
    "transport": native.transport,
    "kernels": native.kernels,
    "redis": redis.redis,
    "suite": suite.suite,
    "tools": tools.tools,
}
MARKS = {"ok": "[green]ok[/green]  ", "warn": "[yellow]warn[/yellow]", "bad": "[red]bad[/red] "}


def doctor(
    only: Annotated[list[str] | None, typer.Argument(help=f"Of: {', '.join(CHECKS)}; left out: all.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Hash no model files.")] = False,
    host: Annotated[
        str, typer.Option(envvar="MAAS_HOST", help="Address that the suite listens on.")
    ] = "127.0.0.1",
    root: Root = ROOT,
    home: Home = HOME,
    json: Json = False,
) -> None:
    """Find what is wrong (machine, settings, models, servers) and say the fix; exit code 1 if anything is."""
    around = Around(os.environ, home, root, host, _ports(), runfile.load(home), quick)
    found = []
    for finding in findings(around, only or list(CHECKS)):
        found.append(finding)
        if not json:
            show(finding)
    if json:
        print_json([asdict(finding) for finding in found])
    else:
        conclude(found)
    if any(finding.state == "bad" for finding in found):
        raise typer.Exit(1)


def findings(around: Around, names: Sequence[str]) -> Iterator[Finding]:
    """Of the named checks, each as it is made. NotFound names the checks there are."""
    if unknown := [name for name in names if name not in CHECKS]:
        raise NotFound("check", unknown[0], CHECKS)
    for name in names:
        with err().status(f"looking at {name} …"):
            found = guarded(name, lambda check=CHECKS[name]: check(around))  # type: ignore[misc]
        yield from found


def show(finding: Finding) -> None:
    """A line, and the fix below it."""
    line = f"{MARKS[finding.state]} [bold]{escape(finding.name)}[/bold]: {escape(finding.found)}"
    out().print(line, highlight=False, soft_wrap=True)
    if finding.fix:
        out().print(f"       → {escape(finding.fix)}", highlight=False, soft_wrap=True)


def conclude(found: Sequence[Finding]) -> None:
    """How many of each."""
    counts = {state: sum(finding.state == state for finding in found) for state in MARKS}
    out().print(f"{counts['bad']} bad, {counts['warn']} to look at, {counts['ok']} well", highlight=False)


def _ports() -> dict[str, int]:
    """As `maas up` takes them from the environment."""
    asked = {name: os.environ.get(f"MAAS_{name.upper()}_PORT", "") for name in PORTS}
    return {name: int(asked[name]) if asked[name].isdecimal() else port for name, port in PORTS.items()}
