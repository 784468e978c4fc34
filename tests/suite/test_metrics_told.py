"""The running suite tells every metric that the alerts and the dashboard ask for, and `maas top` reads it."""

import json
import re
import urllib.request

from cli.program import METRICS_OFFSET
from tests.deploy.promql import named
from tests.deploy.test_monitoring import panels, rules
from tests.suite.conftest import PROGRAMS, Suite


def exposed(suite: Suite) -> set[str]:
    """Names by which any process tells something, with what a histogram or counter makes of them."""
    found: set[str] = set()
    for name in PROGRAMS:
        url = f"http://127.0.0.1:{suite.ports[name] + METRICS_OFFSET}/metrics"
        with urllib.request.urlopen(url, timeout=10) as reply:
            told = reply.read().decode()
        for metric, kind in re.findall(r"^# TYPE (\S+) (\w+)$", told, re.M):
            found |= {metric, *(f"{metric}_{part}" for part in ("bucket", "sum", "count") if kind == "histogram")}
    return found


def test_what_alerts_and_dashboard_ask_for_is_told(suite: Suite) -> None:
    told = exposed(suite) | {"up", *(rule["record"] for rule in rules() if "record" in rule)}
    for expression in (*(rule["expr"] for rule in rules()), *(expression for _, expression in panels())):
        assert named(expression).metrics.keys() <= told, expression


def test_top_reads_every_process(suite: Suite) -> None:
    done = suite.maas("top", "--json", "--every", "0.5")
    assert done.returncode == 0, done.stderr
    programs = json.loads(done.stdout)["programs"]
    assert set(PROGRAMS) <= programs.keys()
    assert all(row["health"] == "serving" and row["memory_bytes"] > 2**24 for row in programs.values())
    assert programs["generation"]["kv_held"] is not None and programs["sequence"]["sessions"] is not None
