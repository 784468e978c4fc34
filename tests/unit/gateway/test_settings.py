"""Settings of the gateway: defaults, replicas, and what is refused."""

import pytest

from gateway.settings import GatewaySettings
from services.runtime.settings import load


def test_the_defaults_are_the_documented_ports():
    found = GatewaySettings()
    assert found.port == 50050
    assert found.addresses == {
        "tokenization": ("127.0.0.1:50051",),
        "vision": ("127.0.0.1:50052",),
        "sequence": ("127.0.0.1:50053",),
        "generation": ("127.0.0.1:50054",),
    }
    assert (found.cache_value_bytes, found.cache_memory_bytes) == (1 << 20, 64 << 20)


def test_a_comma_list_is_replicas(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MAAS_VISION_ADDRESS", "a:1, dns:///b:2,unix:/run/c.sock,")
    found = load(GatewaySettings, ["--sequence-address", "", "--redis-url", "unix:///x.sock"], "gateway")
    assert found.addresses["vision"] == ("a:1", "dns:///b:2", "unix:/run/c.sock")
    assert found.addresses["sequence"] == () and found.redis_url == "unix:///x.sock"


@pytest.mark.parametrize(
    ("flag", "value", "key"),
    [
        ("--vision-address", "localhost", "MAAS_VISION_ADDRESS"),
        ("--redis-url", "localhost:6379", "MAAS_REDIS_URL"),
        ("--cache-ttl-s", "0", "MAAS_CACHE_TTL_S"),
    ],
)
def test_a_bad_value_names_its_key(flag: str, value: str, key: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        load(GatewaySettings, [flag, value], "gateway")
    assert f"{key}={value!r}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2/x@cache:6379",
        "redis:/:hunter2@cache",
        "redis://me:hunter2@[::1",
        "redis://:hunter2@cache:port",
        "http://:hunter2@cache",
        "redis://:hunter2",
    ],
)
def test_a_bad_url_of_redis_is_named_without_its_password(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("MAAS_REDIS_URL", url)
    with pytest.raises(SystemExit):
        load(GatewaySettings, [], "gateway")
    said = capsys.readouterr().err
    assert "MAAS_REDIS_URL=(hidden): " in said and "HOST[:PORT]" in said and "hunter2" not in said


KEY = "00112233445566778899aabbccddeeff" * 2


def test_the_cache_key_comes_from_the_environment_and_is_never_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("MAAS_CACHE_KEY", KEY)
    found = load(GatewaySettings, [], "gateway")
    assert found.cache_key is not None and found.cache_key.get_secret_value() == KEY
    assert KEY not in repr(found) + str(found) + found.model_dump_json()
    with pytest.raises(SystemExit):
        load(GatewaySettings, ["--help"], "gateway")
    assert KEY not in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--cache-key=", "--cache-k="])
def test_the_cache_key_is_no_flag(flag: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        load(GatewaySettings, [flag + KEY], "gateway")
    said = capsys.readouterr().err
    assert "set MAAS_CACHE_KEY" in said and KEY not in said


def test_a_bad_cache_key_is_named_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("MAAS_CACHE_KEY", KEY[:-2])
    with pytest.raises(SystemExit):
        load(GatewaySettings, [], "gateway")
    said = capsys.readouterr().err
    assert "MAAS_CACHE_KEY=(hidden)" in said and "32 bytes" in said and KEY[:-2] not in said
