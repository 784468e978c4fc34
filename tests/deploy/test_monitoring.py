"""Rules and dashboard name what exists, and each alert fires when it should: judged by the real promtool."""

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cli.ports import any_free
from cli.program import METRICS_OFFSET, PORTS
from gateway.tenancy.tenant_metrics import TenantMetrics
from services.runtime.metrics import Metrics
from services.runtime.telemetry.port import opened
from tests.deploy.promql import named, unknown
from tests.needs import needs

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES, TESTS = DEPLOY / "prometheus" / "rules.yml", DEPLOY / "prometheus" / "rules.test.yml"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "maas.json"


def rules() -> list[dict[str, str]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels() -> Iterator[tuple[str, str]]:
    """Title and expression of each."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel.get("targets", ()))


def table() -> dict[str, frozenset[str]]:
    """Labels of every metric by its exposed name: the suite's, Prometheus' own and the rules'."""
    metrics = Metrics()
    TenantMetrics(metrics, 1)
    found: dict[str, frozenset[str]] = {"up": frozenset()}
    for instrument, names in metrics.registry._collector_to_names.items():
        found |= dict.fromkeys(names, frozenset(getattr(instrument, "_labelnames", ())))
    return found | {rule["record"]: frozenset() for rule in rules() if "record" in rule}


def test_every_metric_and_label_of_the_rules_exists() -> None:
    known = table()
    for rule in rules():
        assert not list(unknown(rule["expr"], known)), rule.get("alert") or rule.get("record")


def test_every_metric_and_label_of_the_dashboard_exists() -> None:
    known = table()
    shown = list(panels())
    assert len(shown) > 25
    for title, expression in shown:
        assert not list(unknown(expression, known)), title


def test_what_does_not_exist_is_found() -> None:
    known = table()
    assert list(unknown('sum by (le) (rate(maas_queue_seconds_bucket{queue="a"}[5m]))', known)) == []
    assert list(unknown("rate(maas_queue_secs_bucket[5m])", known)) == ["maas_queue_secs_bucket"]
    assert list(unknown('maas_queue_depth{quue="a"} > 1', known)) == ["maas_queue_depth{quue}"]
    assert list(unknown("sum by (model) (maas_queue_depth)", known)) == ["by (model)"]
    assert named('a_b{c="by (d)"} and on (e) f offset 5m').metrics == {"a_b": {"c"}, "f": set()}


def test_labels_that_alerts_speak_of_are_there() -> None:
    known = table()
    for rule in rules():
        spoken = set(re.findall(r"\$labels\.(\w+)", str(rule.get("annotations", ""))))
        asked = named(rule["expr"])
        given = frozenset().union(*(known[metric] for metric in asked.metrics), {"job", "instance"})
        assert spoken <= ((given & asked.groups) if asked.groups else given), rule["alert"]


def test_targets_are_the_ports_of_the_suite() -> None:
    jobs = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    found = {job["job_name"]: job["static_configs"][0]["targets"] for job in jobs}
    assert found == {f"maas-{name}": [f"127.0.0.1:{port + METRICS_OFFSET}"] for name, port in PORTS.items()}


def test_each_job_shows_the_token_of_metrics_once_it_is_told_to(tmp_path: Path) -> None:
    file, port = tmp_path / "metrics.token", any_free("127.0.0.1")
    file.write_text("a token that is long enough\n")
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    jobs = yaml.safe_load(text.replace("# authorization:", "authorization:"))["scrape_configs"]
    shown = [job["authorization"] for job in jobs]
    # Prometheus: `type` is Bearer unless it is said; what the file holds, without the white space around it.
    held = {(one.get("type", "Bearer"), (tmp_path / one["credentials_file"]).read_text().strip()) for one in shown}
    (header,) = map(" ".join, held)
    assert len(shown) == len(PORTS)
    stop, _ = opened(Metrics(), ("127.0.0.1", port), secret=file)
    try:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Authorization": header})
        with urllib.request.urlopen(request) as reply:
            assert reply.status == 200
    finally:
        stop()


def test_promtool_takes_the_jobs_that_show_a_token(tmp_path: Path) -> None:
    needs("promtool")
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    (tmp_path / "prometheus.yml").write_text(text.replace("# authorization:", "authorization:"))
    (tmp_path / "rules.yml").write_text(RULES.read_text())
    (tmp_path / "metrics.token").write_text("a token that is long enough")
    command = ["promtool", "check", "config", "prometheus.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_asks_the_source_that_is_provisioned() -> None:
    sources = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    asked = {
        target["datasource"]["uid"]
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for target in panel.get("targets", ())
    }
    assert asked == {sources["datasources"][0]["uid"]}


def test_every_alert_has_a_test() -> None:
    tested = {test["name"] for test in yaml.safe_load(TESTS.read_text())["tests"]}
    assert tested == {rule["alert"] for rule in rules() if "alert" in rule}


@pytest.mark.parametrize(
    "asked", [("check", "rules", RULES.name), ("check", "config", "prometheus.yml"), ("test", "rules", TESTS.name)]
)
def test_promtool_is_content(asked: tuple[str, ...]) -> None:
    needs("promtool")
    done = subprocess.run(["promtool", *asked], cwd=RULES.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_each_expression_of_the_dashboard(tmp_path: Path) -> None:
    needs("promtool")
    asked = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, (_, expression) in enumerate(panels())
    ]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": asked}]}))
    done = subprocess.run(["promtool", "check", "rules", tmp_path / "panels.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
