"""An issuer of tokens, as an operator would run it: its keys, its JWKS, its tokens."""

import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER, AUDIENCE = "https://issuer.example", "maas"
KEYS: dict[str, Any] = {
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "RS256": rsa.generate_private_key(65537, 2048),
}
_KINDS: dict[str, Any] = {"EdDSA": OKPAlgorithm, "ES256": ECAlgorithm, "RS256": RSAAlgorithm}


def entry(algorithm: str, kid: str = "", key: Any = None) -> dict[str, Any]:
    """The public half as a JWKS lists it."""
    public = (key or KEYS[algorithm]).public_key()
    return json.loads(_KINDS[algorithm].to_jwk(public)) | {"kid": kid or algorithm}


def jwks(*entries: dict[str, Any]) -> str:
    return json.dumps({"keys": list(entries)})


def token(algorithm: str = "EdDSA", kid: str = "", key: Any = None, **claims: Any) -> str:
    """A good token unless `claims` say otherwise; None leaves a claim out."""
    now = int(time.time())
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "tenant": "acme", "iat": now, "exp": now + 600} | claims
    kept = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(kept, key or KEYS[algorithm], algorithm, headers={"kid": kid or algorithm})
