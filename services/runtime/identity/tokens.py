"""JSON Web Tokens (RFC 7519) of an issuer whose public keys are in a JWKS file (RFC 7517). Knows no transport."""

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import jwt

from services.runtime.errors import InvalidInput, Unauthenticated
from services.runtime.identity.caller import Caller, proper_name

# Public-key algorithms alone: nobody who can read the file can sign.
ALGORITHMS = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}
CURVES = {"RSA": None, "EC": "P-256", "OKP": "Ed25519"}
LEAST_RSA_BITS = 2048
# How far the issuer's clock and ours may be apart.
SKEW_S = 30.0
LONGEST = 8192
REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token must say, and which of its claims mean what."""

    issuer: str
    audience: str
    tenant: str = "tenant"
    roles: str = "roles"


def parse(text: str) -> Mapping[str, jwt.PyJWK]:
    """Public keys by their id. Raises InvalidInput for a file without one that may be used here."""
    try:
        listed = [
            jwt.PyJWK(entry, ALGORITHMS[entry["kty"]]) for entry in json.loads(text)["keys"] if _signs(entry)
        ]
    except (ValueError, KeyError, TypeError, AttributeError, jwt.PyJWTError) as error:
        raise InvalidInput("keys", f"not a JWKS of RSA, P-256 or Ed25519 keys ({type(error).__name__})") from None
    for i, key in enumerate(listed):
        if getattr(key.key, "key_size", LEAST_RSA_BITS) < LEAST_RSA_BITS and key.key_type == "RSA":
            raise InvalidInput(f"keys[{i}]", f"an RSA key must have {LEAST_RSA_BITS} bits or more")
        if hasattr(key.key, "private_bytes"):
            raise InvalidInput(f"keys[{i}]", "is a private key; list its public half")
    if not listed:
        raise InvalidInput("keys", "lists no RSA, P-256 or Ed25519 key")
    return {key.key_id or "": key for key in listed}


@dataclass(slots=True)
class Tokens:
    """Verifies tokens; a good one is known again by its hash until it expires: signatures cost 50 µs and more."""

    keys: Mapping[str, jwt.PyJWK]
    claims: Claims
    vouch: Callable[[Caller], Caller] = lambda caller: caller
    clock: Callable[[], float] = time.time
    _known: OrderedDict[bytes, tuple[Caller, float]] = field(default_factory=OrderedDict)

    def of_token(self, token: str) -> Caller:
        """Raises Unauthenticated unless the token holds now."""
        name = blake2b(token.encode(), digest_size=24).digest()
        caller, until = self._known.get(name, (None, 0.0))
        if caller is not None and self.clock() < until:
            return caller
        self._known.pop(name, None)
        caller, until = self._read(token)
        self._known[name] = caller, until
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return caller

    def _read(self, token: str) -> tuple[Caller, float]:
        try:
            said = self._verified(token)
            name = proper_name("sub", said["sub"])
            tenant = proper_name(self.claims.tenant, said.get(self.claims.tenant))
            roles = frozenset(
                proper_name(self.claims.roles, role) for role in _listed(said.get(self.claims.roles))
            )
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("the token has expired; get a new one", reason="CREDENTIALS_EXPIRED") from None
        except (jwt.PyJWTError, InvalidInput, ValueError) as error:
            why = error.message if isinstance(error, InvalidInput) else _told(error)
            raise Unauthenticated(f"the token does not hold: {why}", reason="CREDENTIALS_INVALID") from None
        return self.vouch(Caller(name, tenant, roles)), float(said["exp"]) + SKEW_S

    def _verified(self, token: str) -> dict[str, Any]:
        if len(token) > LONGEST:
            raise jwt.DecodeError("longer than 8192 characters")
        kid = jwt.get_unverified_header(token).get("kid", "")
        key = self.keys.get(kid) or (next(iter(self.keys.values())) if not kid and len(self.keys) == 1 else None)
        if key is None:
            raise jwt.InvalidKeyError("no such key")
        said: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHMS[str(key.key_type)]],
            issuer=self.claims.issuer,
            audience=self.claims.audience,
            leeway=SKEW_S,
            options={"require": ["exp", "sub"]},
        )
        return said


# In our words: the library's can repeat what a token says.
_TOLD: Mapping[type[Exception], str] = {
    jwt.InvalidSignatureError: "its signature is another key's",
    jwt.InvalidKeyError: "the issuer lists no key of its id",
    jwt.InvalidIssuerError: "it is another issuer's",
    jwt.InvalidAudienceError: "it is meant for another audience",
    jwt.ImmatureSignatureError: "it is not good yet",
    jwt.InvalidIssuedAtError: "it is not good yet",
    jwt.MissingRequiredClaimError: "exp, sub, iss and aud must be there",
    jwt.InvalidAlgorithmError: "it is signed by another algorithm than the issuer's key",
}


def _told(error: Exception) -> str:
    return next((told for kind, told in _TOLD.items() if isinstance(error, kind)), "it does not parse")


def _signs(entry: Mapping[str, Any]) -> bool:
    """Whether it is a key for signatures of a kind that is used here; an issuer may list others beside."""
    kind = entry.get("kty", "")
    return kind in CURVES and entry.get("crv") == CURVES[kind] and entry.get("use", "sig") == "sig"


def _listed(roles: object) -> list[Any]:
    """A list, or words in a string as OAuth's `scope` (RFC 6749, 3.3)."""
    if isinstance(roles, str):
        return roles.split()
    return roles if isinstance(roles, list) else []
