"""`maas top`: figures from two recorded looks, how they look, and what is said where nobody answers."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from cli import metrics_token, runfile
from cli.__main__ import app
from cli.ports import any_free
from cli.program import METRICS_OFFSET
from cli.top import command
from cli.top.figures import figures, quantile
from cli.top.scrape import parsed
from cli.top.view import frame
from services.runtime.errors import InvalidInput, Unauthenticated, Unavailable
from services.runtime.metrics import Metrics
from services.runtime.telemetry.port import opened

CLASSIFY = 'grpc_method="maas.vision.v1.VisionService/Classify"'
BEFORE = f"""
# TYPE grpc_server_call_duration_seconds histogram
grpc_server_call_duration_seconds_bucket{{{CLASSIFY},grpc_status="OK",le="0.01"}} 100
grpc_server_call_duration_seconds_bucket{{{CLASSIFY},grpc_status="OK",le="0.02"}} 100
grpc_server_call_duration_seconds_bucket{{{CLASSIFY},grpc_status="OK",le="+Inf"}} 100
grpc_server_call_duration_seconds_count{{{CLASSIFY},grpc_status="OK"}} 100
# TYPE maas_cache_lookups counter
maas_cache_lookups_total{{outcome="miss",model="a"}} 10
maas_cache_lookups_total{{outcome="bypass",model=""}} 500
# TYPE process_cpu_seconds counter
process_cpu_seconds_total 5.0
"""
NOW = f"""
# TYPE grpc_server_call_duration_seconds histogram
grpc_server_call_duration_seconds_bucket{{{CLASSIFY},grpc_status="OK",le="0.01"}} 140
grpc_server_call_duration_seconds_bucket{{{CLASSIFY},grpc_status="OK",le="0.02"}} 190
grpc_server_call_duration_seconds_bucket{{{CLASSIFY},grpc_status="OK",le="+Inf"}} 190
grpc_server_call_duration_seconds_count{{{CLASSIFY},grpc_status="OK"}} 190
grpc_server_call_duration_seconds_bucket{{{CLASSIFY},grpc_status="INTERNAL",le="0.01"}} 0
grpc_server_call_duration_seconds_bucket{{{CLASSIFY},grpc_status="INTERNAL",le="0.02"}} 10
grpc_server_call_duration_seconds_bucket{{{CLASSIFY},grpc_status="INTERNAL",le="+Inf"}} 10
grpc_server_call_duration_seconds_count{{{CLASSIFY},grpc_status="INTERNAL"}} 10
# TYPE maas_calls_inside gauge
maas_calls_inside 3
# TYPE maas_queue_depth gauge
maas_queue_depth{{queue="a"}} 4
maas_queue_depth{{queue="b"}} 1
# TYPE maas_cache_lookups counter
maas_cache_lookups_total{{outcome="miss",model="a"}} 20
maas_cache_lookups_total{{outcome="hit-l1",model="a"}} 25
maas_cache_lookups_total{{outcome="coalesced",model="a"}} 5
maas_cache_lookups_total{{outcome="bypass",model=""}} 900
# TYPE maas_tokens counter
maas_tokens_total{{model="a",kind="completion"}} 80
maas_tokens_total{{model="a",kind="prompt"}} 999
# TYPE maas_generation_kv_blocks gauge
maas_generation_kv_blocks{{model="a",state="held"}} 25
maas_generation_kv_blocks{{model="a",state="blank"}} 75
# TYPE process_cpu_seconds counter
process_cpu_seconds_total 7.0
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 209715200
"""


def test_figures_are_what_was_added_and_what_stands() -> None:
    told = figures(parsed(BEFORE, 10.0), parsed(NOW, 14.0))
    assert (told.calls_per_s, told.failing) == (25.0, 0.1)
    assert told.p50_s == pytest.approx(0.01 + 0.01 * 10 / 60)
    assert told.p99_s == pytest.approx(0.01 + 0.01 * 59 / 60)
    assert (told.inside, told.queued, told.cpu) == (3, 5, 0.5)
    assert (told.hits, told.tokens_per_s, told.kv_held) == (0.75, 20.0, 0.25)
    assert told.memory_bytes == 200 * 2**20
    assert (told.first_token_s, told.sessions) == (None, None)


def test_a_process_that_began_anew_has_no_negative_rates() -> None:
    told = figures(parsed(NOW, 1.0), parsed(BEFORE, 2.0))
    assert (told.calls_per_s, told.failing, told.p50_s, told.hits, told.cpu) == (0, None, None, None, 0)


def test_a_quantile_lies_within_its_bucket_and_never_beyond_the_last_bound() -> None:
    inf = float("inf")
    assert quantile(0.5, {1.0: 5, 2.0: 10, inf: 10}) == 1.0
    assert quantile(0.75, {1.0: 5, 2.0: 10, inf: 10}) == 1.5
    assert quantile(0.99, {1.0: 0, 2.0: 0, inf: 7}) == 2.0
    assert quantile(0.5, {}) is quantile(0.5, {1.0: 0, inf: 0}) is None


def test_what_a_server_really_tells_is_read() -> None:
    from prometheus_client import generate_latest

    metrics = Metrics()
    before = parsed(generate_latest(metrics.registry).decode(), 0.0)
    calls = metrics.of("/maas.vision.v1.VisionService/Classify")
    for _ in range(8):
        calls.begin()
        calls.end("OK", 0.0045, 1, 1)
    calls.begin()
    told = figures(before, parsed(generate_latest(metrics.registry).decode(), 2.0))
    assert (told.calls_per_s, told.inside, told.failing) == (4.0, 1, 0.0)
    assert told.p50_s == pytest.approx(0.0045) and told.memory_bytes > 2**20


def test_the_table_has_a_line_for_each_and_a_dash_for_who_is_away() -> None:
    told = figures(parsed(BEFORE, 10.0), parsed(NOW, 14.0))
    console = Console(width=200, record=True)
    away = ("127.0.0.1:2", "away", None)
    console.print(frame({"gateway": ("127.0.0.1:1", "serving", told), "vision": away}, "over the last 4 s"))
    lines = console.export_text().splitlines()
    row = next(line for line in lines if line.lstrip().startswith("gateway")).split()
    assert [*row[3:5], *row[5:9]] == ["25.0", "10%", "11.7", "ms", "19.8", "ms"] and row[-2:] == ["200", "MiB"]
    assert next(line for line in lines if line.lstrip().startswith("vision")).split()[3:] == ["–"] * 13


def test_json_has_the_same_and_says_who_does_not_answer() -> None:
    told = figures(parsed(BEFORE, 10.0), parsed(NOW, 14.0))
    look = command.Look({"a": ("x:1", "serving", told), "b": ("x:2", "away", None)})
    found = command.as_json(look, 4.0)
    assert json.loads(json.dumps(found))["programs"]["a"]["calls_per_s"] == 25.0
    assert found["programs"]["b"] == {"address": "x:2", "health": "away", "reachable": False}


def test_where_nothing_answers_it_says_how_to_begin(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "PORTS", {"gateway": 1})
    result = CliRunner().invoke(app, ["top", "--once", "--home", str(tmp_path)])
    assert isinstance(result.exception, Unavailable) and "maas up" in str(result.exception)


TOKEN = "a token that is long enough"


@pytest.fixture
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One program whose metrics ask for the token of this file."""
    file, port = tmp_path / "token", any_free("127.0.0.1")
    file.write_text(f"{TOKEN}\n")
    stop, _ = opened(Metrics(), ("127.0.0.1", port), secret=file)
    monkeypatch.setattr(command, "PORTS", {"gateway": port - METRICS_OFFSET})
    yield file
    stop()


def asked(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["top", "--json", "--every", "0.2", "--home", str(home), *arguments])


def test_metrics_behind_a_token_are_shown_to_who_has_its_file(guarded: Path, tmp_path: Path) -> None:
    found = json.loads(asked(tmp_path, f"--metrics-token-file={guarded}").stdout)
    assert found["programs"]["gateway"]["memory_bytes"] > 2**20
    runfile.Run(
        runfile.myself(), metrics_token_file=metrics_token.file_in({metrics_token.VARIABLE: str(guarded)})
    ).save(tmp_path)
    assert json.loads(asked(tmp_path).stdout)["programs"]["gateway"]["memory_bytes"] > 2**20, "the suite's own"


def test_a_token_that_is_missing_or_wrong_is_told_with_the_fix(guarded: Path, tmp_path: Path) -> None:
    error = asked(tmp_path).exception
    assert isinstance(error, Unauthenticated)
    assert "gateway ask for a token (401)" in error.message and "--metrics-token-file" in error.message
    other = tmp_path / "other"
    other.write_text("b" * 32)
    error = asked(tmp_path, f"--metrics-token-file={other}").exception
    assert isinstance(error, Unauthenticated) and f"refuse the token of {other} (401)" in error.message
    assert "b" * 32 not in error.message


@pytest.mark.parametrize(
    "content, why", [(None, "No such file"), (b"short", "16 printable"), (b"\xff" * 20, "no text")]
)
def test_a_token_file_of_no_use_is_named(tmp_path: Path, content: bytes | None, why: str) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidInput, match=why) as caught:
        metrics_token.header(file)
    assert str(file) in caught.value.message
