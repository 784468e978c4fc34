"""Quotas and prices by the file that sets them. Pure: text in, plans out."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.tenancy.windows import KINDS, UNITS, Window
from services.runtime.errors import InvalidInput

PRICED = ("per_request", "per_1k_prompt_tokens", "per_1k_completion_tokens", "per_compute_second")

Windows = tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class Prices:
    """What a unit costs, by model; `default` for those that are not named."""

    currency: str = ""
    default: Mapping[str, float] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def of(self, model: str) -> Mapping[str, float]:
        return self.models.get(model, self.default)


@dataclass(frozen=True, slots=True)
class Plans:
    """A tenant that is not named has the default."""

    default: Windows = ()
    tenants: Mapping[str, Windows] = field(default_factory=dict)
    prices: Prices | None = None

    def of(self, tenant: str) -> Windows:
        return self.tenants.get(tenant, self.default)


def parse(text: str) -> Plans:
    """`[default]`, `[tenants.NAME]`, `[prices]`. Raises InvalidInput naming what is wrong and what may be.

    A kind that a tenant's table does not name is as the default says; an empty list is no limit.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput("", f"not TOML: {error}") from None
    _known("", tables, ("default", "tenants", "prices"))
    default = _kinds("default", tables.get("default", {}))
    named = _table("tenants", tables.get("tenants", {}))
    tenants = {name: default | _kinds(f"tenants.{name}", table) for name, table in named.items()}
    prices = _prices(tables["prices"]) if "prices" in tables else None
    return Plans(_flat(default), {name: _flat(kinds) for name, kinds in tenants.items()}, prices)


def _flat(kinds: Mapping[str, Windows]) -> Windows:
    return tuple(window for windows in kinds.values() for window in windows)


def _kinds(place: str, table: Any) -> dict[str, Windows]:
    _known(place, table, KINDS)
    return {kind: _windows(f"{place}.{kind}", kind, rates) for kind, rates in table.items()}


def _windows(place: str, kind: str, rates: Any) -> Windows:
    windows = tuple(_window(place, kind, rate) for rate in (rates if isinstance(rates, list) else [rates]))
    if len({window.seconds for window in windows}) < len(windows):
        raise InvalidInput(place, "sets one unit of time twice")
    return windows


def _window(place: str, kind: str, rate: Any) -> Window:
    amount, _, unit = str(rate).partition("/")
    try:
        window = Window(kind, float(amount), UNITS[unit.strip()])
    except (ValueError, KeyError):
        raise InvalidInput(
            place, f"must be AMOUNT/UNIT, a unit one of {', '.join(UNITS)}; as 100/minute"
        ) from None
    if not max(1e-6, window.wanted) <= window.limit < 1e15:
        raise InvalidInput(place, "the amount must be above zero, of requests one or more")
    return window


def _prices(table: Any) -> Prices:
    _known("prices", table, ("currency", "default", "models"))
    named = _table("prices.models", table.get("models", {}))
    models = {name: _price(f"prices.models.{name}", one) for name, one in named.items()}
    return Prices(str(table.get("currency", "")), _price("prices.default", table.get("default", {})), models)


def _price(place: str, table: Any) -> dict[str, float]:
    _known(place, table, PRICED)
    for name, price in table.items():
        if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < 1e9:
            raise InvalidInput(f"{place}.{name}", "must be a number, not negative")
    return {name: float(price) for name, price in table.items()}


def _table(place: str, table: Any) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise InvalidInput(place, "must be a table")
    return table


def _known(place: str, table: Any, names: tuple[str, ...]) -> None:
    if unknown := sorted(set(_table(place, table)) - set(names)):
        raise InvalidInput(f"{place}.{unknown[0]}" if place else unknown[0], f"is none of {', '.join(names)}")
