"""How much each server is given, and by what it is given more: as measured, and as servers tell it."""

import re

import yaml

from services.runtime.metrics import Metrics
from tests.deploy.dockerfile import ROOT
from tests.deploy.manifests import HOME, SETTINGS, of_kind, pods, server, settings_of

UNITS = {"Mi": 1, "Gi": 1024}
MEASURED = ROOT / "tests" / "bench" / "README.md"


def mib(quantity: str) -> int:
    return int(quantity[:-2]) * UNITS[quantity[-2:]]


def test_memory_asked_for_is_above_what_was_measured() -> None:
    text = MEASURED.read_text()
    (peaks,) = re.findall(r"peaks (\d+), (\d+), (\d+) and \d+ MiB", text)
    (generation,) = re.findall(r"peak (\d+) MiB, of which 1024 are the KV budget", text)
    measured = dict(zip(("vision", "sequence", "tokenization", "generation"), (*peaks, generation), strict=True))
    for service, peak in measured.items():
        resources = server(pods("fleet")[service])["resources"]
        assert 1.2 * int(peak) <= mib(resources["requests"]["memory"]) < mib(resources["limits"]["memory"])


def test_as_many_threads_as_processors_are_asked_for() -> None:
    for service, name in (("vision", "threads"), ("sequence", "lanes"), ("generation", "threads")):
        asked = server(pods("fleet")[service])["resources"]["requests"]["cpu"]
        assert getattr(settings_of("fleet", service), name) == int(asked)


def test_what_scales_is_measured_by_servers() -> None:
    """HPA → rule of the adapter → series and labels of a server."""
    series: dict[str, set[str]] = {}
    for metric, names in Metrics().registry._collector_to_names.items():
        series |= {name: set(metric._labelnames) for name in names}
    told = yaml.safe_load((HOME / "components" / "scaling" / "adapter.yaml").read_text())
    rules = {rule["name"]["as"]: rule for rule in told["rules"]["custom"]}
    for rule in rules.values():
        name = rule["seriesQuery"].partition("{")[0]
        assert name in series
        asked = set(re.findall(r'(\w+)="', rule["metricsQuery"]))
        assert asked <= series[name]
    scaled = of_kind("fleet", "HorizontalPodAutoscaler")
    assert scaled.keys() == SETTINGS.keys()
    used = {
        one["pods"]["metric"]["name"] for hpa in scaled.values() for one in hpa["spec"]["metrics"] if "pods" in one
    }
    assert used == rules.keys()
    for name, hpa in scaled.items():
        assert hpa["spec"]["scaleTargetRef"]["name"] == name
        # Else each apply would undo what was scaled.
        assert "replicas" not in of_kind("fleet", "Deployment")[name]["spec"]
