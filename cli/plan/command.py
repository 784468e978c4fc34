"""`maas plan …`: the options, and whom they go to. Works nothing out itself."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import HOME, ROOT, Home, Json, Root
from cli.render import err, out, print_json
from services.runtime.errors import InvalidInput

if TYPE_CHECKING:
    from cli.plan.curves import Curves

app = typer.Typer(name="plan", help="How many processes a load needs, by what each was measured to cost.")

METHODS = ("tokenize", "classify", "embed", "generate")
EVERY = "tokenize=1,classify=1,embed=1"
CurvesFile = Annotated[
    Path | None, typer.Option("--curves", help="What was measured; unset: your own in HOME, else those shipped.")
]


@app.callback(invoke_without_command=True)
def plan(
    context: typer.Context,
    rps: Annotated[float, typer.Option(help="Calls a second, all methods together.")] = 0,
    p99_ms: Annotated[
        list[str] | None, typer.Option(help="Slowest of a hundred calls, ms: N for all, METHOD=N for one; repeat.")
    ] = None,
    mix: Annotated[str, typer.Option(help=f"Shares of the calls, of {', '.join(METHODS)}.")] = EVERY,
    hits: Annotated[float, typer.Option(min=0, max=1, help="Share of calls that the cache answers.")] = 0,
    use: Annotated[
        float, typer.Option(min=0.05, max=0.95, help="Most that a process is given of its most.")
    ] = 0.8,
    gbit: Annotated[float, typer.Option(min=0.001, help="Gbit/s of a gateway's network.")] = 10,
    core_price: Annotated[float, typer.Option(min=0, help="Of a core, an hour.")] = 0,
    gib_price: Annotated[float, typer.Option(min=0, help="Of a GiB of memory, an hour.")] = 0,
    curves: CurvesFile = None,
    home: Home = HOME,
    json: Json = False,
) -> None:
    """The fewest processes that answer --rps within --p99-ms, and what becomes of them with one less.

    A replica is one core. The fleet is simulated with calls that come at random (Poisson), each process taking all
    that wait whenever it is free, as measured; `tests/bench/README.md` says how near that comes to a real run.
    """
    if context.invoked_subcommand:
        return None
    from cli.plan.curves import load
    from cli.plan.fleet import Fleet
    from cli.plan.show import Price, show, told
    from cli.plan.size import Goal
    from cli.plan.size import plan as made_for
    from cli.plan.stations import Load

    if rps <= 0:
        raise InvalidInput("rps", "say how many calls a second, such as --rps 200")
    found = load(curves or _own(home))
    rates = {name: rps * share for name, share in _shares(mix, found).items()}
    fleet = Fleet(found, Load(rates, hits, gbit))
    made = made_for(fleet, Goal(_goals(p99_ms or [], list(rates)), use))
    price = Price(core_price, gib_price)
    if json:
        return print_json(told(made, fleet, price))
    return show(made, fleet, price)


@app.command()
def measure(
    methods: Annotated[str, typer.Option(help="Which, by commas.")] = ",".join(METHODS),
    seconds: Annotated[float, typer.Option(min=0.5, help="Of each point.")] = 3,
    curves: CurvesFile = None,
    root: Root = ROOT,
    home: Home = HOME,
    json: Json = False,
) -> None:
    """Measure what calls cost on this machine, by a suite of its own that goes afterwards: four minutes."""
    from cli.plan import measure as measuring
    from cli.plan.asks import ASKS
    from cli.plan.curves import FILE
    from cli.plan.runs import precise
    from cli.plan.suite import running

    names = _known(methods.split(","))
    path = curves or home / FILE

    async def run() -> "Curves":
        with TemporaryDirectory() as folder, err().status("starting") as status:
            wanted = [ASKS[name].service for name in names]
            async with running(root.absolute(), Path(folder), wanted) as suite:
                return await measuring.curves(suite, names, seconds, lambda text: status.update(text))

    with asyncio.Runner(loop_factory=precise) as runner:
        found = runner.run(run())
    found.save(path)
    if json:
        return print_json({"file": str(path), **asdict(found)})
    return out().print(f"kept in {path}")


def _own(home: Path) -> Path:
    from cli.plan.curves import FILE, SHIPPED

    return home / FILE if (home / FILE).exists() else SHIPPED


def _known(names: Sequence[str]) -> list[str]:
    """InvalidInput names what is none."""
    found = [name.strip() for name in names if name.strip()]
    unknown = [name for name in found if name not in METHODS]
    if unknown or not found:
        raise InvalidInput("methods", f"{', '.join(unknown) or 'none'} unknown: take of {', '.join(METHODS)}")
    return found


def _shares(mix: str, curves: "Curves") -> dict[str, float]:
    """`tokenize=3,embed=1` → 0.75 and 0.25."""
    given = {
        name.strip(): _number("mix", value) for name, _, value in (part.partition("=") for part in mix.split(","))
    }
    unknown = sorted(set(given) - set(curves.methods))
    if unknown:
        raise InvalidInput("mix", f"{', '.join(unknown)} was not measured: there is {', '.join(curves.methods)}")
    return {name: share / sum(given.values()) for name, share in given.items()}


def _goals(given: Sequence[str], methods: Sequence[str]) -> dict[str, float]:
    """The later of two for one method holds; those for one method go before those for all."""
    named = [part.rpartition("=") for part in given]
    unknown = sorted({name for name, _, _ in named} - {"", *methods})
    if not given or unknown:
        raise InvalidInput("p99-ms", f"{', '.join(unknown)} not in the mix" if unknown else "say it: --p99-ms 100")
    every = {method: _number("p99-ms", value) for name, _, value in named if not name for method in methods}
    return every | {name: _number("p99-ms", value) for name, _, value in named if name}


def _number(field: str, text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise InvalidInput(field, f"{text!r} is no number above 0")
    return found
