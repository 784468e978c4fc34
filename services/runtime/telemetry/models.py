"""Loads of model versions → the metrics table. Loads none."""

import time

from services.runtime.metrics import Metrics
from services.runtime.states import Key, State, Status

ENDS = {State.SERVING: "loaded", State.FAILED: "failed"}


class ModelMetrics:
    """Hears of every change of a version's state."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._since: dict[Key, float] = {}

    def told(self, status: Status) -> None:
        manifest = status.manifest
        key = (manifest.name, manifest.version)
        if status.state is State.LOADING:
            self._since[key] = time.monotonic()
        elif status.state in ENDS and key in self._since:
            took_s = time.monotonic() - self._since.pop(key)
            self._metrics.model_load.labels(manifest.name, ENDS[status.state]).observe(took_s)
        # Calls that a version which drains has begun still end.
        serves = status.state is State.SERVING
        self._metrics.models_loaded.labels(manifest.name, str(manifest.version)).set(int(serves))
