"""Tenancy as the settings say: plans → counts → quotas, and a ledger, behind one till."""

from pathlib import Path

from gateway.settings import GatewaySettings
from gateway.tenancy.counts import LocalCounts, SharedCounts
from gateway.tenancy.ledger import Ledger
from gateway.tenancy.plans import Plans, parse
from gateway.tenancy.quotas import Quotas
from gateway.tenancy.report import Reports
from gateway.tenancy.tenant_metrics import TenantMetrics
from gateway.tenancy.tolls import Till
from services.runtime.floor import Floor
from services.runtime.followed import Followed
from services.runtime.redis_link import RedisLink


def open_tenancy(floor: Floor[GatewaySettings]) -> Reports:
    """Has the calls of `floor` counted; returns what tells of it."""
    settings = floor.settings
    told = TenantMetrics(floor.metrics, settings.usage_tenants)
    link = _link(settings, told) if settings.redis_url and (settings.quotas_file or settings.usage) else None
    if link is not None:
        floor.on_close(link.close)
    plans = _plans(floor)
    quotas = _quotas(floor, plans, link, told) if plans is not None else None
    ledger = _ledger(floor, link, told) if settings.usage else None
    if quotas is not None or ledger is not None:
        floor.charge(Till(quotas, ledger))
    return Reports(ledger, lambda: plans.value.prices if plans is not None else None, settings.usage_days)


def _link(settings: GatewaySettings, told: TenantMetrics) -> RedisLink:
    return RedisLink.of(settings, told.fault, lambda is_open: None)


def _plans(floor: Floor[GatewaySettings]) -> Followed[Plans] | None:
    if not floor.settings.quotas_file:
        return None
    plans = Followed(Path(floor.settings.quotas_file), parse)
    floor.on_start(lambda: plans.start(floor.settings.store_poll_s))
    floor.on_close(plans.close)
    return plans


def _quotas(
    floor: Floor[GatewaySettings], plans: Followed[Plans], link: RedisLink | None, told: TenantMetrics
) -> Quotas:
    """Without Redis the processes that share a port share each quota evenly."""
    settings = floor.settings
    share = settings.quota_local_share if link is not None else 1 / settings.workers
    shared = SharedCounts(link) if link is not None else None
    quotas = Quotas(lambda: plans.value, shared, LocalCounts(share), told.refused)
    floor.on_start(quotas.start)
    floor.on_close(quotas.close)
    return quotas


def _ledger(floor: Floor[GatewaySettings], link: RedisLink | None, told: TenantMetrics) -> Ledger:
    ledger = Ledger(link, floor.settings.usage_days, told.used)
    floor.on_start(ledger.start)
    floor.on_close(ledger.close)
    return ledger
