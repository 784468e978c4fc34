"""Answers GetUsage: what tenants have used on some days, and what it costs."""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta

from gateway.tenancy.ledger import Ledger
from gateway.tenancy.plans import Prices
from maas.gateway.v1 import gateway_pb2, gateway_service_pb2
from services.runtime.errors import InvalidInput, PreconditionFailed, Unavailable
from services.runtime.redis_link import NoAnswer

MOST_DAYS = 366


class Reports:
    """`ledger` None: nothing was written down."""

    def __init__(self, ledger: Ledger | None, prices: Callable[[], Prices | None], days: int) -> None:
        self._ledger, self._prices, self._days = ledger, prices, min(days, MOST_DAYS)

    async def usage(
        self, request: gateway_service_pb2.GetUsageRequest, own: str
    ) -> gateway_service_pb2.GetUsageResponse:
        """Of the named tenants, of `own` unless it says otherwise; the caller has been found to be allowed to ask.

        Raises InvalidInput for what is no day, PreconditionFailed where usage is off, Unavailable without Redis.
        """
        first, last = self._range(request)
        if self._ledger is None:
            raise PreconditionFailed("usage is not counted here; set MAAS_USAGE=true", reason="USAGE_OFF")
        named = None if request.all_tenants else [request.tenant if request.HasField("tenant") else own]
        try:
            found = await self._ledger.read(named, first, last)
        except NoAnswer:
            raise Unavailable(
                "Redis, which keeps the usage, did not answer; retry shortly",
                reason="USAGE_UNREACHABLE",
                retry_after_s=1.0,
            ) from None
        prices = self._prices()
        rows = [
            _row(tenant, model, used, prices)
            for tenant, models in sorted(found.items())
            for model, used in sorted(models.items())
        ]
        return gateway_service_pb2.GetUsageResponse(
            usage=rows,
            first_day=first.isoformat(),
            last_day=last.isoformat(),
            currency=prices.currency if prices else "",
        )

    def _range(self, request: gateway_service_pb2.GetUsageRequest) -> tuple[date, date]:
        """Unless set, the last thirty days or as many as are kept, today among them."""
        last = _day("last_day", request.last_day) or datetime.now(UTC).date()
        first = _day("first_day", request.first_day) or last - timedelta(days=min(30, self._days) - 1)
        if not 0 <= (last - first).days < MOST_DAYS:
            raise InvalidInput("first_day", f"must be last_day or up to {MOST_DAYS - 1} days before")
        return first, last


def _day(field: str, text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise InvalidInput(field, "must be a day as 2030-01-31") from None


def _row(tenant: str, model: str, used: Counter[str], prices: Prices | None) -> gateway_pb2.TenantUsage:
    row = gateway_pb2.TenantUsage(
        tenant=tenant,
        model=model,
        requests=round(used["requests"]),
        cached_requests=round(used["cached_requests"]),
        prompt_tokens=round(used["prompt_tokens"]),
        completion_tokens=round(used["completion_tokens"]),
        compute_s=used["compute_seconds"],
    )
    if prices is not None:
        row.cost = _cost(used, prices.of(model))
    return row


def _cost(used: Counter[str], price: Mapping[str, float]) -> float:
    """The price of a unit times the units; of what has no price nothing."""
    return (
        price.get("per_request", 0.0) * used["requests"]
        + price.get("per_1k_prompt_tokens", 0.0) * used["prompt_tokens"] / 1000
        + price.get("per_1k_completion_tokens", 0.0) * used["completion_tokens"] / 1000
        + price.get("per_compute_second", 0.0) * used["compute_seconds"]
    )
