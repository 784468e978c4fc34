"""Calls to the services → the metrics table. No call pays for it."""

from collections.abc import Collection, Mapping

from gateway.backends import Backend
from services.runtime.channels import target_of
from services.runtime.metrics import Metrics


class AttemptMetrics:
    """`addresses` by service, as they are set: the label `grpc_target` tells them, not the replicas behind."""

    def __init__(
        self, metrics: Metrics, backends: Mapping[str, Backend], addresses: Mapping[str, Collection[str]]
    ) -> None:
        self._metrics, self._backends = metrics, backends
        self._targets = {name: ",".join(map(target_of, found)) for name, found in addresses.items()}
        metrics.tellers.append(self.tell)

    def tell(self) -> None:
        for name, backend in self._backends.items():
            for path, calls in list(backend.attempts.tries.items()):
                self._metrics.attempts.tell(calls, path.removeprefix("/"), self._targets[name])
            for path, calls in list(backend.attempts.wholes.items()):
                self._metrics.client_calls.tell(calls, path.removeprefix("/"), self._targets[name])
