"""Fixtures shared by all tests: the store with the real models."""

import os
from pathlib import Path

import pytest

from services.runtime.store.sources.fetcher import Fetcher
from services.runtime.store.store import ModelStore

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def store_root() -> Path:
    """The store that `make test` fills; MAAS_STORE points elsewhere."""
    return Path(os.environ.get("MAAS_STORE", ROOT / ".maas" / "store"))


@pytest.fixture(scope="session")
def model_store(store_root: Path) -> ModelStore:
    """The real models. Fails, not skips, when they are missing: a silent skip would hide everything."""
    store = ModelStore(store_root)
    if not store.names():
        pytest.fail(f"no models in {store_root}; run `make models` or `maas models pull --all`")
    return store


@pytest.fixture(scope="session")
def fetcher() -> Fetcher:
    """Fetches a file once and keeps it where `maas models pull` keeps its downloads."""
    return Fetcher(Path(os.environ.get("MAAS_CACHE_DIR", "~/.cache/maas")).expanduser())
