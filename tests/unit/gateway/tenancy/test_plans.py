"""Quotas and prices as people write them."""

import pytest

from gateway.tenancy.plans import parse
from gateway.tenancy.windows import Window
from services.runtime.errors import InvalidInput

WHOLE = """
[default]
requests = ["10/second", "1000/day"]
tokens = "20000/minute"

[tenants.acme]
requests = "500/second"
compute_seconds = ["30.5 / hour"]

[tenants.free]
requests = []
tokens = []

[prices]
currency = "EUR"
default = { per_1k_prompt_tokens = 0.5 }
models.lite = { per_request = 1, per_compute_second = 0.25 }
"""


def test_a_tenant_has_the_default_but_for_the_kinds_it_names() -> None:
    plans = parse(WHOLE)
    default = (Window("requests", 10, 1), Window("requests", 1000, 86400), Window("tokens", 20000, 60))
    assert plans.of("anybody") == plans.of("") == default
    assert set(plans.of("acme")) == {
        Window("requests", 500, 1),
        Window("tokens", 20000, 60),
        Window("compute_seconds", 30.5, 3600),
    }
    assert plans.of("free") == ()


def test_prices_by_model() -> None:
    prices = parse(WHOLE).prices
    assert prices is not None
    assert (prices.currency, prices.of("other")) == ("EUR", {"per_1k_prompt_tokens": 0.5})
    assert prices.of("lite") == {"per_request": 1.0, "per_compute_second": 0.25}


def test_nothing_is_no_limit() -> None:
    assert parse("").of("t") == () and parse("").prices is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("quotas = 3", "quotas"),
        ("default = 3", "default"),
        ("tenants = 3", "tenants"),
        ("[default]\nrequest = '1/second'", "default.request"),
        ("[default]\nrequests = '0/second'", "default.requests"),
        ("[default]\nrequests = 'nan/second'", "default.requests"),
        ("[default]\nrequests = '10'", "default.requests"),
        ("[tenants.a]\ntokens = '10/week'", "tenants.a.tokens"),
        ("[tenants.a]\ntokens = ['10/day', '20/day']", "tenants.a.tokens"),
        ("[prices.default]\nper_token = 1", "prices.default.per_token"),
        ("[prices.models.x]\nper_request = -1", "prices.models.x.per_request"),
        ("[prices.models.x]\nper_request = nan", "prices.models.x.per_request"),
        ("[", "TOML"),
    ],
)
def test_what_is_wrong_is_named(text: str, named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        parse(text)
