"""`maas models compare` over a store made on the spot."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from cli.__main__ import app
from services.runtime.errors import InvalidInput
from services.runtime.store.store import ModelStore
from services.sequence.models.rnn import RnnForecaster

CARD = {
    "metrics": {"mse": 400.0, "skill": 0.4},
    "baseline": {"mse": 700.0},
    "slices": {"decade": {"[1950]": {"mse": 1500.0, "count": 10}, "1960": {"mse": 200.0, "count": 31}}},
    "plan": {"data": ""},
    "details": {"privacy": {"epsilon": 3.0, "delta": 1e-05}},
}


def compare(store: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", "compare", *arguments, "--store", str(store)], terminal_width=160)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two forecasters of another width, with figures of the same data, and a tokenizer without any."""
    store = ModelStore(tmp_path / "store")
    for hidden in (4, 8):
        torch.manual_seed(0)
        net = RnnForecaster({"features": 1, "hidden_size": hidden})
        with store.publish("spots") as draft:
            save_file(net.state_dict(), draft.directory / "model.safetensors")
            draft.card.update(CARD)
            draft.fields.update(
                tasks=["sequence.forecast"],
                architecture="rnn_forecaster",
                config={"features": 1, "hidden_size": hidden},
                inputs=[{"name": "window", "dtype": "float32", "shape": [-1, 20, 1]}],
                outputs=[{"name": "next", "dtype": "float32", "shape": [-1, 1]}],
                provenance={"source": "pypi:spots==1:spots.csv"},
            )
    with store.publish("words") as draft:
        (draft.directory / "tokenizer.json").write_text("{}")
        draft.fields.update(tasks=["tokenization.tokenize"], runner="none")
    return tmp_path / "store"


def test_versions_stand_side_by_side(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    found = compare(store, "spots@1", "spots@2")
    assert found.exit_code == 0, found.output
    lines = {line.split("  ")[0].strip(): line for line in found.stdout.splitlines()}
    assert "spots/1" in lines[""] and "spots/2" in lines[""]
    assert lines["mse"].count("400.0000 (baseline 700.0000)") == 2
    assert lines["worst decade"].count("[1950]: mse 1500.0, gap 1300.0, under 20 rows") == 2
    assert lines["trained on"].count("pypi:spots==1:spots.csv") == 2 and "weights from" not in lines
    assert lines["parameters"].split()[1:] == ["33", "97"]  # h + h² + 2h in the RNN, h + 1 in its head
    assert lines["private"].count("ε 3.00 at δ 1e-05") == 2
    assert lines["runner"].count("torch, fp32") == 2
    assert len(lines["ms: call"].split()) == 4 and "not comparable" not in found.stdout


def test_as_json_with_what_is_not_comparable(store: Path) -> None:
    found = json.loads(compare(store, "spots", "words", "--json", "--no-latency").stdout)
    spots, words = found["models"]
    assert spots["version"] == 2 and spots["worst"]["decade"]["group"] == "[1950]"
    assert words["metrics"] == {} and words["latency"]["median_ms"] == {}
    assert [warning.split(":")[0] for warning in found["not_comparable"]] == [
        "no task in common",
        "no figures in the card of words/1",
    ]


def test_data_that_do_not_fit_are_refused(store: Path) -> None:
    assert isinstance(compare(store, "spots@1", "spots@2", "--data", "mnist").exception, InvalidInput)
    assert isinstance(compare(store, "spots").exception, InvalidInput)
