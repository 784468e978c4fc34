"""Tells whose call it is: by the gateway's word, an API key, a token or a certificate. Knows no gRPC."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.runtime.errors import Unauthenticated
from services.runtime.followed import Followed
from services.runtime.identity import keys, mesh, policy, tokens
from services.runtime.identity.caller import ANYBODY, Caller
from services.runtime.identity.mesh import Mesh
from services.runtime.identity.policy import TRUSTED, UNLIMITED, Policy, Rights
from services.runtime.identity.settings import IdentitySettings
from services.runtime.sealing import keys_of

API_KEY, AUTHORIZATION, BEARER = "x-api-key", "authorization", "bearer "
# What gRPC calls a certificate's names: RFC 5280 alternative names first, as they are what TLS itself goes by.
CERTIFICATE_NAMES = ("x509_subject_alternative_name", "x509_common_name")

Certificate = Callable[[], Mapping[str, Iterable[bytes]]]


class Doorkeeper:
    """`listed` and `issued` are the sources of identity; without both everybody is welcome and nobody known."""

    def __init__(
        self,
        listed: Followed[keys.Listed] | None,
        issued: Followed[tokens.Tokens] | None,
        trusted: Mesh | None,
        rules: Followed[Policy] | None = None,
    ) -> None:
        self._rules = rules
        self._listed, self._issued, self._mesh = listed, issued, trusted
        self._open = listed is None and issued is None
        self._anybody = trusted.vouch(ANYBODY) if trusted else ANYBODY

    @classmethod
    def of(cls, settings: IdentitySettings) -> "Doorkeeper":
        """As the settings say. Raises InvalidInput or OSError for a file that cannot be read."""
        trusted = Mesh(keys_of(settings.mesh_key.get_secret_value())) if settings.mesh_key else None
        vouch = trusted.vouch if trusted else lambda caller: caller
        claims = tokens.Claims(
            settings.jwt_issuer, settings.jwt_audience, settings.jwt_tenant_claim, settings.jwt_roles_claim
        )
        listed = issued = None
        if settings.api_keys_file:
            listed = Followed(Path(settings.api_keys_file), lambda text: keys.parse(text, vouch))
        if settings.jwks_file:
            parse = lambda text: tokens.Tokens(tokens.parse(text), claims, vouch)  # noqa: E731
            issued = Followed(Path(settings.jwks_file), parse)
        rules = Followed(Path(settings.policy_file), policy.parse) if settings.policy_file else None
        return cls(listed, issued, trusted, rules)

    @property
    def vouching(self) -> tuple[tuple[str, str], ...]:
        """What this server's own calls, which nobody asked for, take along."""
        return self._anybody.vouching

    @property
    def files(self) -> tuple[Followed[Any], ...]:
        """What must be started and closed."""
        return tuple(file for file in (self._listed, self._issued, self._rules) if file is not None)

    def identify(self, metadata: Mapping[str, str], certificate: Certificate) -> Caller:
        """Raises Unauthenticated, saying what to send, for a call without credentials or with bad ones."""
        if mesh.TENANT in metadata:
            if self._mesh is None:
                raise mesh.not_believed("MAAS_MESH_KEY is not set here")
            return self._mesh.read(metadata)
        if self._open:
            return self._anybody
        credential = metadata.get(API_KEY, "") or _bearer(metadata.get(AUTHORIZATION, ""))
        return self._by_credential(credential) if credential else self._by_certificate(certificate())

    def rights(self, caller: Caller) -> Rights:
        """What the policy of now lets `caller` do; without one, whom another server of ours let in may all."""
        if self._rules is not None:
            return self._rules.value.of(caller)
        return TRUSTED if caller.vouched else UNLIMITED

    def _by_credential(self, credential: str) -> Caller:
        if self._listed is not None and (credential.startswith(keys.PREFIX) or self._issued is None):
            return self._listed.value.of_key(credential, datetime.now(UTC))
        if self._issued is not None and not credential.startswith(keys.PREFIX):
            return self._issued.value.of_token(credential)
        raise Unauthenticated(f"API keys are not taken here; {self._way_out()}", reason="CREDENTIALS_INVALID")

    def _by_certificate(self, shown: Mapping[str, Iterable[bytes]]) -> Caller:
        names = [name.decode(errors="replace") for kind in CERTIFICATE_NAMES for name in shown.get(kind, ())]
        caller = self._listed.value.of_certificate(names) if self._listed is not None else None
        if caller is None:
            raise Unauthenticated(f"credentials are missing; {self._way_out()}", reason="CREDENTIALS_MISSING")
        return caller

    def _way_out(self) -> str:
        what = ["an API key"] * (self._listed is not None) + ["a token"] * (self._issued is not None)
        return f"send `{AUTHORIZATION}: Bearer …` with {' or '.join(what)}"


def _bearer(value: str) -> str:
    """RFC 6750; another scheme is no credential here."""
    return value[len(BEARER) :].strip() if value[: len(BEARER)].lower() == BEARER else ""
