"""Fixtures shared by all tests: the store with the real models."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from services.runtime.store.sources.fetcher import Fetcher
from services.runtime.store.store import ModelStore
from tests.needs import needs

CLIENTS = {"npm": ("npm",), "deb": ("apt-get", "dpkg-deb")}
ROOT = Path(__file__).parent.parent

# As services.runtime.runners has it, also where a test imports ONNX Runtime before that: no reports home.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# How long an example takes is the machine's affair, not the code's.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak-minutes", type=float, default=30.0, help="how long tests/suite/test_soak.py goes on")
    parser.addoption("--storm-calls", type=int, default=100_000, help="calls of tests/chaos/test_cancel_storm.py")


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


class PatientFetcher(Fetcher):
    """Skips the test where a file was never fetched and the client of its source is not installed."""

    def fetch(self, source: str, sha256: str) -> Path:
        if not (self.cache / sha256).is_file():
            needs(*CLIENTS.get(source.partition(":")[0], ()))
        return super().fetch(source, sha256)


@pytest.fixture(scope="session")
def fetcher() -> Fetcher:
    """Fetches a file once and keeps it where `maas models pull` keeps its downloads."""
    return PatientFetcher(Path(os.environ.get("MAAS_CACHE_DIR", "~/.cache/maas")).expanduser())
