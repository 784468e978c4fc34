"""API keys: made, listed, known again."""

from datetime import UTC, datetime, timedelta

import pytest
import tomli_w

from services.runtime.errors import InvalidInput, Unauthenticated
from services.runtime.identity import keys

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def listing(*entries: dict[str, object], **more: object) -> keys.Listed:
    return keys.parse(tomli_w.dumps({"keys": list(entries), **more}))


def test_a_key_is_known_and_its_file_does_not_hold_it() -> None:
    key, entry = keys.new("acme", "ci", ["reader"], None)
    caller = listing(entry).of_key(key, NOW)
    assert (caller.name, caller.tenant, caller.roles) == ("ci", "acme", {"reader"})
    assert key.split("_", 2)[2] not in tomli_w.dumps(entry)


def test_each_is_different() -> None:
    made = [keys.new("acme", "ci", [], None) for _ in range(50)]
    assert len({key for key, _ in made}) == len({entry["salt"] for _, entry in made}) == 50


def test_only_the_very_key() -> None:
    (key, entry), (_, other) = keys.new("acme", "a", [], None), keys.new("umbrella", "b", [], None)
    found = listing(entry, other)
    swapped = key.replace(entry["id"], other["id"])
    for wrong in ("", "maas_", key[:-1], key + "A", key.swapcase(), swapped, key.replace(entry["id"], "0" * 12)):
        with pytest.raises(Unauthenticated, match="not known"):
            found.of_key(wrong, NOW)


def test_until_it_expires() -> None:
    key, entry = keys.new("acme", "a", [], NOW)
    assert listing(entry).of_key(key, NOW - timedelta(seconds=1)).tenant == "acme"
    with pytest.raises(Unauthenticated, match="expired"):
        listing(entry).of_key(key, NOW)


def test_certificates_by_their_names() -> None:
    found = listing(certificates=[{"subject": "spiffe://mesh/batch", "tenant": "acme", "roles": ["writer"]}])
    caller = found.of_certificate(["batch.example", "spiffe://mesh/batch"])
    assert caller is not None
    assert (caller.name, caller.tenant, caller.roles) == ("spiffe://mesh/batch", "acme", {"writer"})
    assert found.of_certificate(["spiffe://mesh/batch2"]) is None


@pytest.mark.parametrize(
    "broken", [{"tenant": ""}, {"roles": "all"}, {"hash": "?"}, {"salt": 4}, {"expires": "soon"}]
)
def test_a_broken_entry_is_named_and_not_shown(broken: dict[str, object]) -> None:
    _, good = keys.new("acme", "a", [], None)
    _, entry = keys.new("acme", "b", [], None)
    with pytest.raises(InvalidInput) as told:
        listing(good, entry | broken)
    assert f"keys[1].{next(iter(broken))}" in told.value.message
    assert entry["hash"] not in told.value.message


def test_not_toml() -> None:
    with pytest.raises(InvalidInput, match="not TOML"):
        keys.parse("keys = [")
