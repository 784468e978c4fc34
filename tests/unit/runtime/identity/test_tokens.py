"""Which tokens hold."""

import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import OKPAlgorithm

from services.runtime.errors import InvalidInput, Unauthenticated
from services.runtime.identity.tokens import Claims, Tokens, parse
from tests.clock import Clock
from tests.unit.runtime.identity.tokens import AUDIENCE, ISSUER, KEYS, entry, jwks, token

CLAIMS = Claims(ISSUER, AUDIENCE)
ALL = jwks(*(entry(algorithm) for algorithm in KEYS))


def verifier(text: str = ALL, **more: Any) -> Tokens:
    return Tokens(parse(text), CLAIMS, **more)


@pytest.mark.parametrize("algorithm", KEYS)
def test_each_algorithm(algorithm: str) -> None:
    caller = verifier().of_token(token(algorithm, roles=["reader", "writer"]))
    assert (caller.name, caller.tenant, caller.roles) == ("ann", "acme", {"reader", "writer"})


def test_roles_as_words_and_claims_of_other_names() -> None:
    tokens = Tokens(parse(ALL), Claims(ISSUER, AUDIENCE, tenant="org", roles="scope"))
    caller = tokens.of_token(token(tenant=None, org="umbrella", scope="infer train"))
    assert (caller.tenant, caller.roles) == ("umbrella", {"infer", "train"})


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"iss": "https://other"}, "issuer"),
        ({"iss": None}, "must be there"),
        ({"aud": "other"}, "audience"),
        ({"aud": None}, "must be there"),
        ({"exp": None}, "must be there"),
        ({"sub": None}, "must be there"),
        ({"exp": 1}, "expired"),
        ({"nbf": 1 << 40}, "not good yet"),
        ({"tenant": None}, "tenant"),
        ({"tenant": ""}, "tenant"),
        ({"tenant": ["a"]}, "tenant"),
        ({"tenant": "a\nb"}, "tenant"),
    ],
)
def test_what_is_refused(claims: dict[str, Any], why: str) -> None:
    with pytest.raises(Unauthenticated, match=why):
        verifier().of_token(token(**claims))


def test_clocks_may_differ_a_little() -> None:
    verifier().of_token(token(exp=int(time.time()) - 20))
    with pytest.raises(Unauthenticated, match="expired"):
        verifier().of_token(token(exp=int(time.time()) - 40))


def test_another_key_of_the_same_id() -> None:
    with pytest.raises(Unauthenticated, match="signature"):
        verifier().of_token(token(key=ed25519.Ed25519PrivateKey.generate()))


def test_nobody_signs_with_what_all_can_read() -> None:
    """The public key as an HMAC secret, and no signature at all."""
    public = KEYS["RS256"].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "eve", "tenant": "acme", "exp": time.time() + 60}
    hidden = jwt.api_jws.PyJWS()
    hidden._algorithms["HS256"].prepare_key = lambda key: key  # the library refuses to sign so itself
    forged = hidden.encode(json.dumps(said).encode(), pem, "HS256", headers={"kid": "RS256"})
    bare = jwt.encode(said, None, "none", headers={"kid": "RS256"})
    for one in (forged, bare):
        with pytest.raises(Unauthenticated, match="algorithm"):
            verifier().of_token(one)


@pytest.mark.parametrize("garbage", ["", "a.b.c", "maas_", "é.é.é", "x" * 9000, token()[:-4], token() + "."])
def test_garbage(garbage: str) -> None:
    with pytest.raises(Unauthenticated) as told:
        verifier().of_token(garbage)
    assert garbage == "" or garbage not in str(told.value)


def test_a_key_without_an_id_is_found_if_it_is_alone() -> None:
    alone = entry("ES256") | {"kid": ""}
    bare = jwt.encode(jwt.decode(token(), options={"verify_signature": False}), KEYS["ES256"], "ES256")
    assert verifier(jwks(alone)).of_token(bare).tenant == "acme"
    with pytest.raises(Unauthenticated, match="no key of its id"):
        verifier().of_token(bare)


def test_a_good_one_is_verified_once_and_not_beyond_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, seen = Clock(time.time()), token()
    tokens, verified = verifier(clock=clock), []
    read = Tokens._verified
    monkeypatch.setattr(Tokens, "_verified", lambda self, one: verified.append(one) or read(self, one))
    for _ in range(5):
        tokens.of_token(seen)
    assert len(verified) == 1
    clock.now += 631
    tokens.of_token(seen)
    assert len(verified) == 2


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.runtime.identity.tokens.REMEMBERED", 4)
    tokens = verifier()
    for i in range(9):
        tokens.of_token(token(sub=f"user {i}"))
    assert len(tokens._known) == 4


def test_files_that_are_no_jwks() -> None:
    private = {"keys": [json.loads(OKPAlgorithm.to_jwk(KEYS["EdDSA"]))]}
    weak = rsa.generate_private_key(65537, 1024)
    for text in ("", "{}", "[]", '{"keys": []}', '{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}'):
        with pytest.raises(InvalidInput):
            parse(text)
    with pytest.raises(InvalidInput, match="private"):
        parse(json.dumps(private))
    with pytest.raises(InvalidInput, match="2048"):
        parse(jwks(entry("RS256", key=weak)))


def test_keys_of_other_kinds_beside_are_left_out() -> None:
    larger = entry("ES256", "p384", ec.generate_private_key(ec.SECP384R1()))
    assert list(parse(jwks(larger, entry("RS256") | {"use": "enc"}, entry("EdDSA")))) == ["EdDSA"]
