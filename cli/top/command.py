"""`maas top`: how every process of a suite does, live; from health, the gateway's word, and metrics ports."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.live import Live

from cli import metrics_token, replicas, runfile
from cli.metrics_token import TokenFile
from cli.options import HOME, Home, Json
from cli.probe import grpc_health
from cli.program import GATEWAY, PORTS
from cli.render import out, print_json
from cli.tls import tls_of
from cli.top.figures import Figures, figures
from cli.top.scrape import Scrape, scrapes
from cli.top.view import frame
from services.runtime.errors import Unauthenticated, Unavailable
from services.runtime.tls.settings import TlsSettings

Every = Annotated[float, typer.Option("--every", min=0.2, max=60, help="Seconds between two looks.")]
Once = Annotated[bool, typer.Option("--once", help="Look twice, show the difference, and end.")]
Frame = dict[str, tuple[str, str, Figures | None]]


@dataclass(frozen=True, slots=True)
class Look:
    """Everything once; `refusal`: what to say where metrics were refused, or nothing."""

    rows: Frame
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Asking:
    """Whom to ask, by address; how TLS is spoken, in which file the token for metrics is."""

    known: Mapping[str, str]
    tls: TlsSettings | None = None
    token: Path | None = None


def top(
    every: Every = 2.0,
    once: Once = False,
    metrics_token_file: TokenFile = None,
    home: Home = HOME,
    json: Json = False,
) -> None:
    """Live figures of every process: rates, latencies, queues, cache, tokens, memory. Ctrl-C ends it."""
    run = runfile.load(home)
    asyncio.run(_top(asking(run, metrics_token.chosen(metrics_token_file, run)), every, once or json, json))


def asking(run: runfile.Run | None, token: Path | None) -> Asking:
    """The suite that runs, or one where `maas up` would have it."""
    tls = tls_of({**os.environ, **(run.tls if run else {})})
    programs = run.programs if run else {}
    known = {name: programs[name].address if name in programs else f"127.0.0.1:{PORTS[name]}" for name in PORTS}
    return Asking(known, tls, token)


async def _top(asked: Asking, every_s: float, once: bool, json: bool) -> None:
    note = f"over the last {every_s:g} s · Ctrl-C ends"
    found = looks(asked, every_s)
    if json:
        print_json(as_json(await anext(found), every_s))
    elif once:
        out().print(_shown(await anext(found), note, out().width))
    else:
        await _live(found, note)


async def _live(looks: AsyncIterator[Look], note: str) -> None:
    with Live(console=out(), screen=out().is_terminal, auto_refresh=False) as live:
        async for found in looks:
            live.update(_shown(found, note, live.console.width), refresh=True)


def _shown(found: Look, note: str, width: int) -> RenderableType:
    return frame(found.rows, f"{found.refusal}\n{note}" if found.refusal else note, width)


async def looks(asked: Asking, every_s: float) -> AsyncIterator[Look]:
    """One every `every_s` seconds; the token is read anew for each. Raises Unavailable where nothing at all
    answers, Unauthenticated where the first time nobody takes the token."""
    before: dict[str, Scrape] | None = None
    while True:
        members = await _members(asked.known, asked.tls)
        told = await scrapes(members.values(), asked.tls, metrics_token.header(asked.token))
        health = await asyncio.gather(*(grpc_health(address, asked.tls) for address in members.values()))
        now = {address: one for address, one in zip(members.values(), told, strict=True) if one is not None}
        if not now and not any(health):
            raise Unavailable(f"nothing answers at {', '.join(members.values())}; `maas up` starts a suite")
        refused = [name for name, address in members.items() if address in now and now[address].refused]
        refusal = metrics_token.refusal(refused, asked.token) if refused else ""
        if before is None and refused and len(refused) == len(now):
            raise Unauthenticated(refusal)
        if before is not None:
            yield Look(dict(_rows(members, health, before, now)), refusal)
        before = now
        await asyncio.sleep(every_s)


def _rows(
    members: Mapping[str, str],
    health: Iterable[Mapping[str, bool] | None],
    before: Mapping[str, Scrape],
    now: Mapping[str, Scrape],
) -> Iterator[tuple[str, tuple[str, str, Figures | None]]]:
    for (name, address), states in zip(members.items(), health, strict=True):
        yield name, (address, _word(states), _between(before.get(address), now.get(address)))


def as_json(found: Look, seconds: float) -> dict[str, Any]:
    """One document: by program its address, health and figures; null = nothing to tell."""
    rows = {
        name: {"address": address, "health": health, **(asdict(told) if told else {"reachable": False})}
        for name, (address, health, told) in found.rows.items()
    }
    return {"seconds": seconds, "programs": rows, **({"refusal": found.refusal} if found.refusal else {})}


async def _members(known: Mapping[str, str], tls: TlsSettings | None) -> dict[str, str]:
    """Those that are known, and what else the gateway calls, each under a name of its own."""
    found = dict(known)
    for row in await replicas.behind(known[GATEWAY], tls) or ():
        if row["address"] not in found.values():
            found[f"{row['service']} {row['address']}"] = row["address"]
    return found


def _between(before: Scrape | None, now: Scrape | None) -> Figures | None:
    if before is None or now is None or before.refused or now.refused:
        return None
    return figures(before, now)


def _word(states: Mapping[str, bool] | None) -> str:
    return "away" if states is None else "serving" if states.get("") else "not serving"
