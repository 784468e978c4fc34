"""`maas models compare`: versions side by side, to choose one."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.markup import escape

from cli.completing import stored_models
from cli.evaluate import bar
from cli.options import CACHE, ROOT, Cache, Json, Root
from cli.render import downloads, out, print_json, size, table
from cli.reports import FEW, shown
from services.runtime.store.sources.fetcher import Fetcher
from services.runtime.store.store import ModelStore

Row = Callable[[Any], str]


def compare(
    names: Annotated[
        list[str],
        typer.Argument(help="NAME, NAME@VERSION or NAME@LABEL; two or more.", autocompletion=stored_models),
    ],
    data: Annotated[str, typer.Option(help="Measure all on these rows now: what `maas evaluate` takes.")] = "",
    latency: Annotated[bool, typer.Option(help="Time one call of each on this machine.")] = True,
    root: Root = ROOT,
    cache: Cache = CACHE,
    json: Json = False,
) -> None:
    """Versions side by side: task, data, figures beside the baseline, worst groups, size, latency.

    Figures are those of the model cards, and it is said when they come from different rows; --data measures all on
    the same. Latency is the median of thirty calls with one row, by the version's own runner on one thread; of a
    language model, of 64 tokens read and of one more step.
    """
    from training.compare import sides_of, told, warnings

    store = ModelStore(root)
    sides = sides_of(store, names)
    if data:
        sides = judged(store, sides, data, cache)
    if latency:
        sides = timed(store, sides)
    if json:
        return print_json({"models": [told(side) for side in sides], "not_comparable": warnings(sides)})
    out().print(table(["", *(side.name for side in sides)], rows(sides)))
    for warning in warnings(sides):
        out().print(f"not comparable: {warning}", soft_wrap=True, highlight=False, markup=False)
    return None


def judged(store: ModelStore, sides: Sequence[Any], data: str, cache: Cache) -> list[Any]:
    """Every side measured on the same data; a bar for what takes longer than two seconds."""
    from training.compare import judged, question_of

    question, found = question_of(data, sides), []
    for side in sides:
        with downloads() as report, bar(f"evaluating {side.name} on {data}") as tell:
            fetcher = Fetcher(cache.expanduser(), report)
            found.append(judged(side, store.directory(side.manifest), question, fetcher, tell))
    return found


def timed(store: ModelStore, sides: Sequence[Any]) -> list[Any]:
    """Every side's latency; the bar counts models."""
    from training.compare import timed

    found: list[Any] = []
    with bar("timing") as tell:
        for side in sides:
            found.append(timed(side, store.directory(side.manifest)))
            tell(len(found), len(sides))
    return found


def rows(sides: Sequence[Any]) -> list[list[str]]:
    """One line a property, one column a version; what none of them has is left out."""
    lines: list[tuple[str, Row]] = [
        ("tasks", lambda side: ", ".join(side.manifest.tasks)),
        ("architecture", lambda side: side.manifest.architecture),
        ("trained on", lambda side: side.source if side.trained else ""),
        ("weights from", lambda side: "" if side.trained else side.source),
        *((name, _figure(name)) for name in _names(side.metrics for side in sides)),
        *((f"on {name}", _evaluated(name)) for name in _names(side.evaluations for side in sides)),
        *((f"worst {name}", _worst(name)) for name in _names(side.worst for side in sides)),
        ("private", lambda side: _private(side.card.get("details", {}).get("privacy"))),
        ("parameters", lambda side: f"{side.parameters:,}" if side.parameters else ""),
        ("size", lambda side: size(side.size_bytes)),
        ("runner", lambda side: f"{side.manifest.runner}, {side.manifest.precision}"),
        *((f"ms: {name}", _milliseconds(name)) for name in _names(side.latency.median_ms for side in sides)),
        ("timed", lambda side: side.latency.note),
        ("digest", lambda side: side.manifest.digest[7:19]),
    ]
    told = ([name, *(escape(tell(side)) for side in sides)] for name, tell in lines)
    return [line for line in told if any(line[1:])]


def _names(tables: Iterable[Iterable[str]]) -> list[str]:
    """The keys of all, each once, in the order they come."""
    return list(dict.fromkeys(key for keys in tables for key in keys))


def _figure(name: str) -> Row:
    def tell(side: Any) -> str:
        baseline = side.baseline.get(name)
        beside = "" if baseline is None else f" (baseline {shown(baseline)})"
        return shown(side.metrics.get(name)) + beside

    return tell


def _evaluated(data: str) -> Row:
    """The first figure of an evaluation that the card keeps."""

    def tell(side: Any) -> str:
        metric, value = next(iter(side.evaluations.get(data, {}).items()), ("", None))
        return f"{metric} {shown(value)}" if metric else ""

    return tell


def _worst(name: str) -> Row:
    def tell(side: Any) -> str:
        worst = side.worst.get(name)
        if worst is None:
            return ""
        few = f", {FEW}" if worst.small else ""
        return f"{worst.group}: {worst.metric} {shown(worst.value)}, gap {shown(worst.gap)}{few}"

    return tell


def _private(spent: Mapping[str, Any] | None) -> str:
    """What training told of each row at most, if it was bounded."""
    return f"ε {spent['epsilon']:.2f} at δ {spent['delta']:g}" if spent else ""


def _milliseconds(name: str) -> Row:
    def tell(side: Any) -> str:
        value = side.latency.median_ms.get(name)
        return "" if value is None else f"{value:.3g}"

    return tell
