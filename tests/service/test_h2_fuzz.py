"""No frames bring the compiled part of our HTTP/2 down, make it tell a call twice, or leave memory behind."""

import pytest

from services.runtime.h2.native import load
from tests.service.h2_fuzz import run, sanitized
from tests.service.test_h2 import built

pytestmark = pytest.mark.skipif(not built(), reason="needs g++ and libnghttp2.so.14")


@pytest.mark.parametrize("seed", [1, 2])
def test_frames_right_wrong_and_damaged(seed: int) -> None:
    done, calls = run(load(), seed, connections=150)
    assert done == 150 and calls > 1000


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_same_under_the_sanitizers() -> None:
    found = sanitized(60, 3)
    assert found.returncode == 0, found.stderr[-4000:]
    # Deaf sanitizers would say nothing either.
    assert "connections" in found.stdout
