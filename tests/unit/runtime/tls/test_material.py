"""Certificates and keys are read whole or refused by name."""

from pathlib import Path

import pytest

from cli.authority import Authority
from services.runtime.errors import InvalidInput
from services.runtime.tls import material
from services.runtime.tls.settings import is_loopback


@pytest.fixture
def pairs(tmp_path: Path) -> dict[str, tuple[Path, Path]]:
    authority = Authority(tmp_path)
    return {name: authority.issue(name, ["localhost"], days) for name, days in (("a", 1), ("b", 1), ("old", -1))}


def test_pair_that_belongs_together_is_read(pairs: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    chain, key = pairs["a"]
    found = material.read(chain, key, tmp_path / "authority.pem")
    assert found.pair == (key.read_bytes(), chain.read_bytes())
    assert found.authority == (tmp_path / "authority.pem").read_bytes()


def test_key_of_another_certificate_is_refused_by_name(pairs: dict[str, tuple[Path, Path]]) -> None:
    with pytest.raises(InvalidInput, match=r"b\.key is not the key of a\.pem"):
        material.read(pairs["a"][0], pairs["b"][1], None)


def test_certificate_that_is_over_is_refused(pairs: dict[str, tuple[Path, Path]]) -> None:
    with pytest.raises(InvalidInput, match="was good until"):
        material.read(*pairs["old"], None)


@pytest.mark.parametrize(
    "text", [b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_what_is_no_pem_is_refused(text: bytes, pairs: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_bytes(text)
    with pytest.raises(InvalidInput, match=r"bad\.pem holds no certificate"):
        material.read(bad, pairs["a"][1], None)
    with pytest.raises(InvalidInput, match=r"bad\.pem holds no key"):
        material.read(pairs["a"][0], bad, None)


def test_keys_are_their_owners_alone(pairs: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    for path in (pairs["a"][1], tmp_path / "authority.key"):
        assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("example.org", False),
    ],
)
def test_loopback_is_told_from_what_others_reach(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone
