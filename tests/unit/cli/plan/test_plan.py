"""What is chosen for a load, what becomes of it, and what is said where nothing can be chosen."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.__main__ import app
from cli.plan.curves import SHIPPED, Curves, Method, Points, load
from cli.plan.fleet import Fleet
from cli.plan.size import Goal, plan
from cli.plan.stations import GATEWAY, REDIS, Load
from services.runtime.errors import InvalidInput, NotFound

GATEWAY_S, SERVICE_S = (
    Points([1, 2], [1e-3, 2e-3], [0], [0]),
    Points([1, 4], [10e-3, 28e-3], [0], [0]),
)
ONE = Method("vision", GATEWAY_S, SERVICE_S, [0.014], [0.014], 1000, 100)
CURVES = Curves({}, {"classify": ONE}, {"vision": 100.0, "gateway": 50.0, "valkey": 10.0}, 1e-4, 2e-4, 1e-5)


def made(rate: float, p99_ms: float, **more: float) -> Any:
    return plan(Fleet(CURVES, Load({"classify": rate}, **more)), Goal({"classify": p99_ms}))


def test_costs_lie_straight_between_what_was_measured_and_go_on_as_the_last() -> None:
    batches = ONE.points.batches(8)
    assert batches[0] == pytest.approx(10e-3) and batches[1] == pytest.approx(16e-3)
    assert batches[7] == pytest.approx(28e-3 * 2)
    assert (np.diff(batches) >= 0).all()


def test_the_goal_is_met_by_few() -> None:
    found = made(500, 60)
    assert found.outlook.quantile_ms("classify", 0.99) <= 60
    assert all(stay.load <= 0.8 for stay in found.outlook.stays.values())
    fewer = Fleet(CURVES, Load({"classify": 500.0})).outlook({"vision": 4, GATEWAY: 1, REDIS: 1})
    assert found.replicas["vision"] > 4 or fewer.quantile_ms("classify", 0.99) <= 60


def test_a_sharper_goal_takes_more_and_a_lost_replica_costs() -> None:
    loose, sharp = made(500, 100), made(500, 30)
    assert sum(sharp.replicas.values()) > sum(loose.replicas.values())
    less = loose.lost["vision"].quantile_ms("classify", 0.99)
    assert less > loose.outlook.quantile_ms("classify", 0.99)


def test_known_answers_need_no_service_and_a_narrow_link_needs_gateways() -> None:
    assert made(2000, 60, hits=0.9).replicas["vision"] < made(2000, 60).replicas["vision"]
    narrow = made(2000, 60, gbit=0.004)
    assert narrow.replicas[GATEWAY] > made(2000, 60).replicas[GATEWAY]
    assert narrow.outlook.network <= 0.8


def test_what_cannot_be_had_is_said() -> None:
    with pytest.raises(InvalidInput, match="where nothing else runs"):
        made(10, 5)
    with pytest.raises(InvalidInput, match="100 is the limit"):
        made(1e6, 60)


def test_curves_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="maas plan measure"):
        load(tmp_path / "no.json")
    bad = tmp_path / "bad.json"
    for text in ("[]", "{}", '{"methods": {"classify": {}}}', "?"):
        bad.write_text(text)
        with pytest.raises(InvalidInput, match=r"bad\.json holds no curves"):
            load(bad)
    CURVES.save(bad)
    assert load(bad) == CURVES


def test_the_command_plans_by_what_is_shipped() -> None:
    words = ["plan", "--rps", "100", "--p99-ms", "500", "--core-price", "0.05", "--json", f"--curves={SHIPPED}"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert told["cores"] == sum(one["replicas"] for one in told["processes"].values())
    assert told["cost_an_hour"] == pytest.approx(0.05 * told["cores"], abs=0.01)
    assert all(one["p99_ms"] <= 500 for one in told["latency"].values())
    assert told["measured"]["cpu"]


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ([], "rps"),
        (["--rps=10"], "p99-ms"),
        (["--rps=10", "--p99-ms=x"], "p99-ms"),
        (["--rps=10", "--p99-ms=forecast=3"], "p99-ms"),
        (["--rps=10", "--p99-ms=9", "--mix=forecast=1"], "mix"),
        (["--rps=10", "--p99-ms=9", "--mix=embed=0"], "mix"),
    ],
)
def test_options_that_are_of_no_use_are_named(words: list[str], field: str) -> None:
    done = CliRunner().invoke(app, ["plan", *words, f"--curves={SHIPPED}"])
    assert isinstance(done.exception, InvalidInput) and done.exception.message.startswith(field)
