"""Steps that are sent again, and the form in which a session is kept."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.errors import PreconditionFailed
from services.sequence.checkpoints.memory import HEAD_BYTES, Memory, pack, unpack
from services.sequence.checkpoints.recent import MOST_BYTES, MOST_STEPS, Recent, mark_of


def frame(value: float) -> np.ndarray:
    return np.full((1, 4), value, np.float32)


def heard(steps: int, classes: int = 1) -> Recent:
    """As after so many steps; the input of step n is n, its scores are n, n + 0.5 …"""
    recent = Recent()
    for n in range(1, steps + 1):
        recent = recent.then(mark_of(frame(n)), np.arange(classes, dtype=np.float32) / 2 + n)
    return recent


@pytest.mark.parametrize(("classes", "steps"), [(1, MOST_STEPS), (30, MOST_BYTES // 128), (5000, 1)])
def test_the_last_steps_are_known_and_no_older_ones(classes: int, steps: int) -> None:
    recent, last = heard(100, classes), 100
    assert recent.steps == steps
    for back in range(steps):
        scores = recent.find(back, mark_of(frame(last - back)))
        assert scores is not None and scores.dtype == np.float32
        assert scores.tolist() == (np.arange(classes) / 2 + last - back).tolist()
    assert recent.find(steps, mark_of(frame(last - steps))) is None


def test_another_input_is_another_step() -> None:
    assert heard(5).find(1, mark_of(frame(4.5))) is None
    assert heard(5).find(-1, mark_of(frame(6))) is None
    assert Recent().find(0, mark_of(frame(0))) is None


STATE = {"h": np.arange(12, dtype=np.float32).reshape(2, 1, 6) / 7, "seen": np.array([[3]], np.int64)}
FRESH = {name: np.zeros_like(array) for name, array in STATE.items()}
DATA = pack("vad", "3", 100, Memory("sha256:x", STATE, heard(100)))


def test_what_is_kept_is_read_bit_for_bit() -> None:
    found = unpack(DATA)
    assert (found.model, found.version, found.digest, found.step) == ("vad", "3", "sha256:x", 100)
    memory = found.memory(FRESH)
    assert memory.recent == heard(100)
    for name, array in STATE.items():
        assert memory.state[name].dtype == array.dtype and memory.state[name].flags.writeable
        assert memory.state[name].tobytes() == array.tobytes() and memory.state[name].shape == array.shape


@pytest.mark.parametrize(
    "fresh",
    [
        {"h": FRESH["h"]},
        {"h": FRESH["h"].reshape(1, 2, 6), "seen": FRESH["seen"]},
        {"h": FRESH["h"].astype(np.int32), "seen": FRESH["seen"]},
        {"seen": FRESH["seen"], "h": FRESH["h"]},
        {"other": FRESH["h"], "seen": FRESH["seen"]},
        {"h": np.zeros((2, 1, 60000), np.float32), "seen": FRESH["seen"]},
    ],
)
def test_a_state_of_another_form_is_refused(fresh: dict[str, np.ndarray]) -> None:
    with pytest.raises(PreconditionFailed, match="cannot be read"):
        unpack(DATA).memory(fresh)


HEADER = json.loads(DATA[HEAD_BYTES : HEAD_BYTES + int.from_bytes(DATA[1:HEAD_BYTES], "little")])


@pytest.mark.parametrize(
    "change",
    [
        {"step": -1},
        {"step": True},
        {"step": 1e3},
        {"step": 10},  # less than the recent steps
        {"recent_bytes": 2**62},
        {"recent_bytes": 12 * 65},
        {"recent_bytes": 7},
        {"classes": -2},  # an entry of no bytes
        {"classes": 2**70},
        {"digest": None},
        {"model": ["vad"]},
        {"body": "x"},
        {"more": 1},
    ],
)
def test_a_header_that_was_never_written_is_refused(change: dict[str, object]) -> None:
    head = json.dumps(HEADER | change).encode()
    with pytest.raises(PreconditionFailed, match="cannot be read"):
        unpack(b"\x01" + len(head).to_bytes(4, "little") + head + DATA[-800:]).memory(FRESH)


@given(st.data())
def test_damaged_bytes_are_refused_or_read_never_worse(data: st.DataObject) -> None:
    damaged = bytearray(DATA)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(DATA) - 1) | st.integers(0, HEAD_BYTES + len(json.dumps(HEADER))))
        damaged[place] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.just(len(DATA)) | st.integers(0, len(DATA)))])
    try:
        memory = unpack(cut).memory(FRESH)
    except PreconditionFailed:
        return
    assert {name: array.shape for name, array in memory.state.items()} == {n: a.shape for n, a in FRESH.items()}
