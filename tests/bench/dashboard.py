"""The dashboard of deploy/grafana drawn from a Prometheus that has scraped a real run: what Grafana would show.

Usage: python -m tests.bench.dashboard http://127.0.0.1:9090 dashboard.png [--minutes 5]
"""

import argparse
import json
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards" / "maas.json"
POINTS, WIDTH_IN, ROW_IN = 120, 26, 0.42
SHORT = 44


def asked(url: str, expression: str, minutes: float) -> list[dict[str, Any]]:
    """The series of an expression over the last minutes, as Prometheus tells them."""
    end = time.time()
    step = max(1.0, minutes * 60 / POINTS)
    query = {
        "query": expression.replace("$__rate_interval", f"{max(12, round(4 * step))}s"),
        **{"start": str(end - minutes * 60), "end": str(end), "step": str(step)},
    }
    with urllib.request.urlopen(f"{url}/api/v1/query_range?{urllib.parse.urlencode(query)}", timeout=20) as reply:
        found: list[dict[str, Any]] = json.load(reply)["data"]["result"]
    return found


def named(legend: str, labels: dict[str, str]) -> str:
    for key, value in labels.items():
        legend = legend.replace("{{" + key + "}}", value.removeprefix("maas."))
    return legend if len(legend) <= SHORT else "…" + legend[-SHORT:]


def draw(axes: Any, panel: dict[str, Any], url: str, minutes: float) -> int:
    """A panel; how many series it has."""
    last, count = 0.0, 0
    for target in panel["targets"]:
        for series in asked(url, target["expr"], minutes):
            times, values = zip(*((float(at), float(value)) for at, value in series["values"]), strict=True)
            ages = [at - time.time() for at in times]
            axes.plot(ages, values, label=named(target["legendFormat"], series["metric"]), linewidth=1.4)
            last, count = values[-1], count + 1
    unit = panel["fieldConfig"]["defaults"]["unit"]
    axes.set_title(f"{panel['title']} ({unit})", fontsize=10, loc="left")
    if "scaleDistribution" in panel["fieldConfig"]["defaults"].get("custom", {}):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.tick_params(labelsize=7)
    if panel["type"] == "stat":
        axes.set_axis_off()
        for line in axes.lines:
            line.set_alpha(0.25)
        shown = f"{last:.1%}" if unit == "percentunit" else f"{last:,.1f}"
        axes.text(0.5, 0.45, shown if count else "no data", transform=axes.transAxes, ha="center", fontsize=26)
    elif count:
        axes.legend(fontsize=6, loc="upper left", framealpha=0.6)
    else:
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", color="grey")
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("file", type=Path)
    parser.add_argument("--minutes", type=float, default=5)
    options = parser.parse_args()
    panels = [one for one in json.loads(DASHBOARD.read_text())["panels"] if one["type"] != "row"]
    height = max(one["gridPos"]["y"] + one["gridPos"]["h"] for one in panels)
    figure = pyplot.figure(figsize=(WIDTH_IN, height * ROW_IN))
    for panel in panels:
        place = panel["gridPos"]
        rectangle = (
            place["x"] / 24 + 0.02,
            1 - (place["y"] + place["h"]) / height + 0.008,
            place["w"] / 24 - 0.03,
            place["h"] / height - 0.02,
        )
        count = draw(figure.add_axes(rectangle), panel, options.url, options.minutes)
        print(f"{count:3} series  {panel['title']}")
    figure.savefig(options.file, dpi=75)


if __name__ == "__main__":
    main()
