"""What `make test` can do without: Python and make are enough for it, so a test says what else it runs."""

import shutil

import pytest


def needs(*programs: str) -> None:
    """Skips the test, naming what is missing, on a machine without one of `programs`."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
