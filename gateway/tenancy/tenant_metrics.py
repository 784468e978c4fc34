"""Usage and refusals by tenant for Prometheus: a bounded number of tenants, the rest together."""

from collections import Counter as Counts
from collections.abc import Mapping

from prometheus_client import Counter

from services.runtime.metrics import Metrics

OTHER = "other"


class TenantMetrics:
    """The first `most` tenants seen have labels of their own."""

    def __init__(self, metrics: Metrics, most: int) -> None:
        self._most, self._named = most, set[str]()
        registry = metrics.registry
        labels = ("tenant", "model")
        self._requests = Counter("maas_tenant_requests", "answered calls", (*labels, "cached"), registry=registry)
        self._tokens = Counter("maas_tenant_tokens", "tokens", (*labels, "kind"), registry=registry)
        self._compute = Counter("maas_tenant_compute_seconds", "device time", labels, registry=registry)
        self._refused = Counter("maas_quota_refused", "calls over a quota", ("tenant", "kind"), registry=registry)
        # Times Redis did not say what tenants had used.
        self._faults = Counter("maas_tenancy_faults", "Redis faults", registry=registry)

    def used(self, tenant: str, models: Mapping[str, Counts[str]]) -> None:
        """What a tenant has used since it was told last."""
        name = self._label(tenant)
        for model, used in models.items():
            cached = used["cached_requests"]
            self._requests.labels(name, model, "yes").inc(cached)
            self._requests.labels(name, model, "no").inc(used["requests"] - cached)
            self._tokens.labels(name, model, "prompt").inc(used["prompt_tokens"])
            self._tokens.labels(name, model, "completion").inc(used["completion_tokens"])
            self._compute.labels(name, model).inc(used["compute_seconds"])

    def refused(self, tenant: str, kind: str) -> None:
        self._refused.labels(self._label(tenant), kind).inc()

    def fault(self) -> None:
        self._faults.inc()

    def _label(self, tenant: str) -> str:
        if tenant not in self._named and len(self._named) >= self._most:
            return OTHER
        self._named.add(tenant)
        return tenant
