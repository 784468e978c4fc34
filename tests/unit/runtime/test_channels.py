"""The channel-argument table: symmetric sizes, no misspelt key, retry of UNAVAILABLE only."""

import json

import pytest

from services.runtime import channels


def test_a_key_that_core_would_ignore_is_refused() -> None:
    with pytest.raises(ValueError, match="min_recv_ping_interval"):
        channels.options({"grpc.http2.min_recv_ping_interval_without_data_ms": 1})


def test_sizes_are_the_same_both_ways() -> None:
    for table in (dict(channels.server_options(5)), dict(channels.client_options(5))):
        assert table["grpc.max_receive_message_length"] == table["grpc.max_send_message_length"] == 5


def test_the_server_floor_of_pings_is_under_the_clients_interval() -> None:
    server, client = dict(channels.server_options(1)), dict(channels.client_options(1))
    assert int(server["grpc.http2.min_ping_interval_without_data_ms"]) < int(client["grpc.keepalive_time_ms"])


def test_only_unavailable_is_retried() -> None:
    config = json.loads(str(dict(channels.client_options(1))["grpc.service_config"]))
    assert config["methodConfig"][0]["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]
    assert config["loadBalancingConfig"] == [{"round_robin": {}}]
    assert "methodConfig" not in json.loads(
        str(dict(channels.client_options(1, retry=False))["grpc.service_config"])
    )


@pytest.mark.parametrize(
    ("address", "target"),
    [("host:1", "dns:///host:1"), ("dns:///host:1", "dns:///host:1"), ("unix:/tmp/x", "unix:/tmp/x")],
)
def test_names_are_resolved_to_every_address(address: str, target: str) -> None:
    assert channels.target_of(address) == target


def test_an_unanswered_ping_ends_a_connection_when_the_table_says() -> None:
    """Core itself waits a minute, whatever the timeout of keepalives is."""
    for table in (dict(channels.server_options(1)), dict(channels.client_options(1, keepalive=channels.QUICK))):
        assert table["grpc.http2.ping_timeout_ms"] == table["grpc.keepalive_timeout_ms"]
    assert table["grpc.keepalive_time_ms"] == 1000
