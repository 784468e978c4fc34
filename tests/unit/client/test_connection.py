"""Where a client connects to and what it shows there."""

import json
from pathlib import Path

import pytest

from maas_client import Client, Tls
from maas_client.connection import ADDRESS, Manner, channel_arguments, target_of
from services.runtime import channels


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("gateway:50050", "dns:///gateway:50050"),
        ("127.0.0.1:1", "dns:///127.0.0.1:1"),
        ("dns:///gateway:50050", "dns:///gateway:50050"),
        ("ipv4:10.0.0.1:1,10.0.0.2:1", "ipv4:10.0.0.1:1,10.0.0.2:1"),
        ("unix:/run/maas.sock", "unix:/run/maas.sock"),
        ("xds:///maas", "xds:///maas"),
    ],
)
def test_names_are_looked_up_and_schemes_stay(address: str, target: str) -> None:
    assert target_of(address) == target


def test_arguments_are_of_those_that_core_knows() -> None:
    table = dict(channel_arguments(True, Tls(server_name="maas")))
    assert set(table) <= channels.KNOWN
    policy = json.loads(table["grpc.service_config"])["methodConfig"][0]["retryPolicy"]
    assert policy["retryableStatusCodes"] == ["UNAVAILABLE"] and policy["maxAttempts"] == 3
    assert "methodConfig" not in json.loads(dict(channel_arguments(False, None))["grpc.service_config"])


@pytest.mark.parametrize(
    "near", ["localhost:1", "127.0.0.1:1", "[::1]:1", "unix:/x", "ipv4:127.0.0.1:1,127.0.0.2:2"]
)
def test_a_credential_stays_on_this_machine_in_clear(near: str) -> None:
    told, _ = Manner(near, {"credential": "maas_key"}).metadata({})
    assert ("authorization", "Bearer maas_key") in told


@pytest.mark.parametrize("far", ["gateway:50050", "10.0.0.1:1", "ipv4:127.0.0.1:1,10.0.0.2:1", "xds:///maas"])
def test_a_credential_goes_no_further_in_clear_unless_told_to(far: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="in clear"):
        Client(far, credential="maas_key")
    Manner(far, {"credential": "maas_key", "plaintext": True})
    Manner(far, {"credential": "maas_key", "tls": Tls()})


def test_a_token_is_asked_for_anew_and_each_call_has_an_id_of_its_own() -> None:
    tokens = iter(["first", "second"])
    manner = Manner(ADDRESS, {"credential": lambda: next(tokens), "metadata": {"x-team": "us"}})
    (one, first), (two, second) = manner.metadata({}), manner.metadata({"cache_control": "no-cache"})
    assert dict(one) == {"x-request-id": first, "authorization": "Bearer first", "x-team": "us"}
    assert dict(two)["authorization"] == "Bearer second" and dict(two)["cache-control"] == "no-cache"
    assert first != second and len(first) == 32
    assert manner.timeout({}) == 60 and manner.timeout({"timeout_s": 1.5}) == 1.5


def test_a_certificate_comes_with_its_key() -> None:
    with pytest.raises(ValueError, match="together"):
        Tls(certificate="mine.pem").credentials()
