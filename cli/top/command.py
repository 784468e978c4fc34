"""`maas top`: how every process of a suite does, live; from health, the gateway's word, and metrics ports."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live

from cli import replicas, runfile
from cli.options import HOME, Home, Json
from cli.probe import grpc_health
from cli.program import GATEWAY, PORTS
from cli.render import out, print_json
from cli.tls import tls_of
from cli.top.figures import Figures, figures
from cli.top.scrape import Scrape, scrapes
from cli.top.view import frame
from services.runtime.errors import Unavailable
from services.runtime.tls.settings import TlsSettings

Every = Annotated[float, typer.Option("--every", min=0.2, max=60, help="Seconds between two looks.")]
Once = Annotated[bool, typer.Option("--once", help="Look twice, show the difference, and end.")]
Frame = dict[str, tuple[str, str, Figures | None]]


def top(every: Every = 2.0, once: Once = False, home: Home = HOME, json: Json = False) -> None:
    """Live figures of every process: rates, latencies, queues, cache, tokens, memory. Ctrl-C ends it."""
    asyncio.run(_top(every, once or json, home, json))


async def _top(every_s: float, once: bool, home: Path, json: bool) -> None:
    run = runfile.load(home)
    tls = tls_of({**os.environ, **(run.tls if run else {})})
    programs = run.programs if run else {}
    known = {name: programs[name].address if name in programs else f"127.0.0.1:{PORTS[name]}" for name in PORTS}
    note = f"over the last {every_s:g} s · Ctrl-C ends"
    frames = looks(known, tls, every_s)
    if json:
        print_json(as_json(await anext(frames), every_s))
    elif once:
        out().print(frame(await anext(frames), note, out().width))
    else:
        await _live(frames, note)


async def _live(frames: AsyncIterator[Frame], note: str) -> None:
    with Live(console=out(), screen=out().is_terminal, auto_refresh=False) as live:
        async for found in frames:
            live.update(frame(found, note, live.console.width), refresh=True)


async def looks(known: Mapping[str, str], tls: TlsSettings | None, every_s: float) -> AsyncIterator[Frame]:
    """One frame every `every_s` seconds. Raises Unavailable where nothing at all answers."""
    before: dict[str, Scrape] = {}
    first = True
    while True:
        members = await _members(known, tls)
        told = await scrapes(members.values(), tls)
        health = await asyncio.gather(*(grpc_health(address, tls) for address in members.values()))
        now = {address: one for address, one in zip(members.values(), told, strict=True) if one is not None}
        if not now and not any(health):
            asked = ", ".join(members.values())
            raise Unavailable(f"nothing answers at {asked}; `maas up` starts a suite")
        if not first:
            yield {
                name: (address, _word(states), _between(before.get(address), now.get(address)))
                for (name, address), states in zip(members.items(), health, strict=True)
            }
        before, first = now, False
        await asyncio.sleep(every_s)


def as_json(found: Frame, seconds: float) -> dict[str, Any]:
    """One document: by program its address, health and figures; null = nothing to tell."""
    rows = {
        name: {"address": address, "health": health, **(asdict(told) if told else {"reachable": False})}
        for name, (address, health, told) in found.items()
    }
    return {"seconds": seconds, "programs": rows}


async def _members(known: Mapping[str, str], tls: TlsSettings | None) -> dict[str, str]:
    """Those that are known, and what else the gateway calls, each under a name of its own."""
    found = dict(known)
    for row in await replicas.behind(known[GATEWAY], tls) or ():
        if row["address"] not in found.values():
            found[f"{row['service']} {row['address']}"] = row["address"]
    return found


def _between(before: Scrape | None, now: Scrape | None) -> Figures | None:
    return figures(before, now) if before is not None and now is not None else None


def _word(states: Mapping[str, bool] | None) -> str:
    return "away" if states is None else "serving" if states.get("") else "not serving"
