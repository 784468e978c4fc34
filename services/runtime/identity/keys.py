"""API keys and client certificates by the file that lists them. Pure: text in, callers out.

A key is 256 random bits, so a plain keyed hash protects it: there is no dictionary to try, which is all that a
slow hash would hinder, and every call would pay for that. The salt keeps equal hashes from telling of equal keys.
"""

import hmac
import re
import secrets
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from services.runtime.errors import InvalidInput, Unauthenticated
from services.runtime.identity.caller import Caller, proper_name

ID_BYTES, SECRET_BYTES, SALT_BYTES, HASH_BYTES = 6, 32, 16, 32
PREFIX = "maas_"
_KEY = re.compile(r"maas_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")

Vouch = Callable[[Caller], Caller]


@dataclass(frozen=True, slots=True)
class Key:
    """What is kept of a key: enough to know it again, not to make it."""

    caller: Caller
    salt: bytes
    hash: bytes
    expires: datetime | None

    def fits(self, secret: str) -> bool:
        return hmac.compare_digest(self.hash, _hashed(secret, self.salt))


@dataclass(frozen=True, slots=True)
class Listed:
    """Everything a file lists: keys by id, callers by a name in their certificate."""

    keys: Mapping[str, Key]
    certificates: Mapping[str, Caller]

    def of_key(self, presented: str, now: datetime) -> Caller:
        """Raises Unauthenticated for a key that is not listed, or no longer good."""
        parts = _KEY.fullmatch(presented)
        key = self.keys.get(parts[1]) if parts else None
        if parts is None or key is None or not key.fits(parts[2]):
            raise Unauthenticated("the API key is not known here; ask for one", reason="CREDENTIALS_INVALID")
        if key.expires is not None and now >= key.expires:
            raise Unauthenticated("the API key has expired; ask for a new one", reason="CREDENTIALS_EXPIRED")
        return key.caller

    def of_certificate(self, names: Iterable[str]) -> Caller | None:
        """The caller that goes by one of a certificate's names."""
        return next((self.certificates[name] for name in names if name in self.certificates), None)


def parse(text: str, vouch: Vouch = lambda caller: caller) -> Listed:
    """The file's `[[keys]]` and `[[certificates]]`. Raises InvalidInput naming the entry, never what it holds."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput("", f"not TOML: {error}") from None
    keys = dict(_key(f"keys[{i}]", table, vouch) for i, table in enumerate(tables.get("keys", ())))
    named = tables.get("certificates", ())
    return Listed(keys, dict(_certificate(f"certificates[{i}]", table, vouch) for i, table in enumerate(named)))


def new(tenant: str, name: str, roles: Collection[str], expires: datetime | None) -> tuple[str, dict[str, Any]]:
    """A fresh key, and the table that lists it. Raises InvalidInput for names that cannot be."""
    key_id, secret = secrets.token_hex(ID_BYTES), secrets.token_urlsafe(SECRET_BYTES)
    salt = secrets.token_bytes(SALT_BYTES)
    table: dict[str, Any] = {
        "id": key_id,
        "name": proper_name("name", name),
        "tenant": proper_name("tenant", tenant),
    }
    table |= {"roles": [proper_name("role", role) for role in roles]} if roles else {}
    table |= {"expires": expires} if expires else {}
    return f"{PREFIX}{key_id}_{secret}", table | {"salt": salt.hex(), "hash": _hashed(secret, salt).hex()}


def _key(place: str, table: Mapping[str, Any], vouch: Vouch) -> tuple[str, Key]:
    caller = vouch(_caller(place, table))
    salt, hashed = (_hex(place, table, name) for name in ("salt", "hash"))
    expires = table.get("expires")
    if expires is not None and not isinstance(expires, datetime):
        raise InvalidInput(f"{place}.expires", "must be a date and time, as 2030-01-31T00:00:00Z")
    if expires is not None and expires.tzinfo is None:
        expires = expires.replace(tzinfo=UTC)
    return proper_name(f"{place}.id", table.get("id")), Key(caller, salt, hashed, expires)


def _certificate(place: str, table: Mapping[str, Any], vouch: Vouch) -> tuple[str, Caller]:
    return proper_name(f"{place}.subject", table.get("subject")), vouch(_caller(place, table, "subject"))


def _caller(place: str, table: Mapping[str, Any], named_by: str = "name") -> Caller:
    name, tenant = (proper_name(f"{place}.{field}", table.get(field)) for field in (named_by, "tenant"))
    roles = table.get("roles", [])
    if not isinstance(roles, list):
        raise InvalidInput(f"{place}.roles", "must be a list of names")
    return Caller(name, tenant, frozenset(proper_name(f"{place}.roles", role) for role in roles))


def _hex(place: str, table: Mapping[str, Any], name: str) -> bytes:
    try:
        return bytes.fromhex(table[name])
    except (KeyError, TypeError, ValueError):
        raise InvalidInput(f"{place}.{name}", "must be in hex, as `maas keys new` writes it") from None


def _hashed(secret: str, salt: bytes) -> bytes:
    return blake2b(secret.encode(), key=salt, digest_size=HASH_BYTES, person=b"maas-api-key").digest()
