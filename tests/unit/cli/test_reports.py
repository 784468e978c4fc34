"""What a person reads of a report: the worst group by the metric's own direction, few rows said to be few."""

import pytest

from cli.render import out
from cli.reports import precision_table, show_left_out, show_report, show_slices
from training.recipe import Report
from training.slices import lower_is_better, metric_of, worst_of

FORECAST = Report(
    {"mse": 400.0, "skill": 0.4},
    {"mse": 700.0},
    {"decade": {"1950": {"mse": 1500.0, "count": 10}, "[1960]": {"mse": 200.0, "count": 31}}},
    {"samples": ["[b]And"]},
)
PICTURES = Report(
    {"accuracy": 0.9},
    {"accuracy": 0.5},
    {
        "light": {
            "day": {"accuracy": 0.95, "accuracy_low": 0.9, "accuracy_high": 0.97, "count": 200},
            "night": {"accuracy": 0.5, "accuracy_low": 0.3, "accuracy_high": 0.7, "count": 40},
        }
    },
)


def test_the_worst_group_of_errors_is_the_one_with_most(capsys: pytest.CaptureFixture[str]) -> None:
    show_report(FORECAST)
    told = capsys.readouterr().out
    assert "worst decade: 1950 with mse 1500.0 on 10 rows (under 20 rows: little is known)" in told
    assert "1300.0 above the best; 1 of 2 groups have under 20 rows" in told
    assert "sample: [b]And" in told


def test_the_worst_group_of_merits_is_the_one_with_least(capsys: pytest.CaptureFixture[str]) -> None:
    show_report(PICTURES)
    told = capsys.readouterr().out
    assert "worst light: night with accuracy 0.5000 on 40 rows, 0.4500 below the best\n" in told


def test_every_group_is_listed_worst_first_with_its_interval(capsys: pytest.CaptureFixture[str]) -> None:
    show_slices(PICTURES)
    show_slices(FORECAST)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("light", "decade"))]
    assert [line.split()[1] for line in lines] == ["night", "day", "1950", "[1960]"]
    assert "0.3000–0.7000" in lines[0] and "under 20 rows" in lines[2] and "under" not in lines[3]


def test_a_slice_is_judged_by_the_first_metric_that_all_groups_have() -> None:
    groups = {"a": {"loss": 2.0, "accuracy": 0.5}, "b": {"accuracy": 0.1}}
    assert metric_of(groups, ["loss", "accuracy"]) == "accuracy"
    assert metric_of(groups, ["mse"]) is None
    assert worst_of(groups, "accuracy").group == "b"
    assert [lower_is_better(name) for name in ("mse_11_steps", "loss", "accuracy", "skill_over_seasonal")] == [
        True,
        True,
        False,
        False,
    ]


def test_rows_left_out_are_named_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    left_out = {"torn [x]": [f"{n}.png" for n in range(12)], "none": []}
    show_left_out({"left_out": left_out, "too_many_groups": {"user[0]": 104}})
    column, told = capsys.readouterr().out.splitlines()
    assert column.startswith("not broken down by user[0]: 104 groups")
    assert told.startswith("left out as torn [x]: 0.png") and told.endswith("9.png, …")


def test_precisions_stand_beside_fp32(capsys: pytest.CaptureFixture[str]) -> None:
    exact = {"perplexity": 20.0, "divergence": 0.0, "max_logprob_error": 0.0}
    less = {"perplexity": 20.1, "divergence": 0.004, "max_logprob_error": 0.5}
    told = {"data": "own", "tokens": 9, "fp32": exact, "int8": less, "int4": {"note": "cannot be had: [x]"}}
    out().print(precision_table(told))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[1] == ["fp32", "20.0000", "+0.00%", "0.0000", "0.0000"]
    assert rows[2] == ["int8", "20.1000", "+0.50%", "0.0040", "0.5000"]
    assert rows[3] == ["int4", "cannot", "be", "had:", "[x]"] and len(rows) == 4
