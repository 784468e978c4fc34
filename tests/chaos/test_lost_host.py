"""A whole host goes under load, link and processes, and comes back: no call fails that another host can answer.

`pytest -m slow -s tests/chaos/test_lost_host.py` prints the figures.
"""

import json
import subprocess
import sys

import pytest

from services.runtime.store.store import ModelStore
from tests.chaos.netns import OUTSIDE, missing
from tests.chaos.server import ROOT

pytestmark = [pytest.mark.models, pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_lost_host_costs_no_call(model_store: ModelStore) -> None:
    if why := missing():
        pytest.skip(why)
    command = [*OUTSIDE, sys.executable, "-m", "tests.chaos.lost_host", f"--store={model_store.root}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=580)
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)
    found = json.loads(done.stdout)
    assert found["adds_up"] and found["ended"]["answered"] > 0
    # Streams and sessions may go on elsewhere: they are `resumed`, and then answered.
    assert not found["trouble"], found["trouble"]
    assert found["unary"]["failed"] == 0
    assert found["answered_a_second"]["lost"] > 0 and found["answered_a_second"]["after"] > 0
