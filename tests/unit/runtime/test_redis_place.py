"""Redis URLs: what they mean, and what is refused without being repeated."""

import ssl
from pathlib import Path

import pytest

from services.runtime.redis.place import Address, Login, Place, place_of
from tests.redis_servers import certificate


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://cache", Place("alone", (Address("cache", 6379),), Login())),
        ("redis://:p%40ss@cache:1/2", Place("alone", (Address("cache", 1),), Login("", "p@ss", 2))),
        ("redis://me:secret@[::1]:7", Place("alone", (Address("::1", 7),), Login("me", "secret"))),
        ("unix:///run/r.sock?db=3", Place("alone", (Address(path="/run/r.sock"),), Login(db=3))),
        (
            "redis+cluster://me:p@a:1,b,[::1]:3",
            Place("cluster", (Address("a", 1), Address("b", 6379), Address("::1", 3)), Login("me", "p")),
        ),
        (
            "redis+sentinel://:p@a:1,b/main/4?sentinel_username=you&sentinel_password=q%2F",
            Place(
                "sentinel",
                (Address("a", 1), Address("b", 26379)),
                Login("", "p", 4),
                master="main",
                sentinel=Login("you", "q/"),
            ),
        ),
    ],
)
def test_what_a_url_means(url: str, place: Place):
    assert place_of(url) == place


@pytest.mark.parametrize(
    "url",
    [
        "http://cache",
        "redis://",
        "redis://:hunter2@cache:port",
        "redis+sentinel://:hunter2@a",
        "redis+sentinel://:hunter2@a/main/x",
        "redis+sentinel://:hunter2@a/main/0/more",
        "redis+cluster://:hunter2@a,b/3",
        "redis+cluster://:hunter2@a:b",
        "redis+cluster://",
        "redis://:hunter2@cache?socket_timeout=3",
    ],
)
def test_what_is_no_form_is_refused_and_not_repeated(url: str):
    with pytest.raises(ValueError, match="no redis://") as caught:
        place_of(url)
    assert "hunter2" not in str(caught.value)


def test_tls_is_checked_unless_told_otherwise(tmp_path: Path):
    pem = certificate(tmp_path)
    for scheme, path in (("rediss", ""), ("rediss+cluster", ""), ("rediss+sentinel", "/main")):
        tls = place_of(f"{scheme}://cache{path}?ssl_ca_certs={pem}").tls
        assert tls is not None and tls.verify_mode is ssl.CERT_REQUIRED and tls.check_hostname
        assert [one["serialNumber"] for one in tls.get_ca_certs()]
    lax = place_of("rediss://cache?ssl_cert_reqs=none").tls
    assert lax is not None and lax.verify_mode is ssl.CERT_NONE
    with pytest.raises(FileNotFoundError):
        place_of(f"rediss://cache?ssl_ca_certs={tmp_path}/missing.pem")


def test_a_password_is_not_shown():
    assert "hunter2" not in repr(place_of("redis+sentinel://:hunter2@a/main?sentinel_password=hunter2"))
