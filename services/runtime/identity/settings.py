"""Settings that tell callers apart: whose keys, tokens and certificates are taken. Without, nobody is asked."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings

from services.runtime.errors import InvalidInput
from services.runtime.identity import keys, policy, tokens
from services.runtime.sealing import keys_of


def readable(parse: Callable[[str], object]) -> AfterValidator:
    """Read where it is named, so that a bad file stops the start and says why."""

    def check(path: str) -> str:
        try:
            if path:
                parse(Path(path).read_text(encoding="utf-8"))
        except (InvalidInput, OSError) as error:
            raise ValueError(str(error)) from None
        return path

    return AfterValidator(check)


def _are_keys(secret: SecretStr) -> SecretStr:
    keys_of(secret.get_secret_value())
    return secret


KeysPath = Annotated[str, readable(keys.parse)]
PolicyPath = Annotated[str, readable(policy.parse)]
JwksPath = Annotated[str, readable(tokens.parse)]
MeshKeys = Annotated[SecretStr, AfterValidator(_are_keys)]


class IdentitySettings(BaseSettings):
    """Who may call, and how a tenant is known."""

    api_keys_file: KeysPath = Field("", description="TOML file of API keys (hashed) and client certificates")
    policy_file: PolicyPath = Field(
        "", description="TOML file of who may call what; with it, what no rule allows is denied"
    )
    jwks_file: JwksPath = Field("", description="JWKS file: public keys of the issuer whose tokens are taken")
    jwt_issuer: str = Field("", description="`iss` that a token must have")
    jwt_audience: str = Field("", description="`aud` that a token must have")
    jwt_tenant_claim: str = Field("tenant", min_length=1, description="claim that names the tenant")
    jwt_roles_claim: str = Field("roles", min_length=1, description="claim that lists the caller's roles")
    mesh_key: MeshKeys | None = Field(
        None,
        description="32 bytes in base64 or hex by which services believe the gateway's word for a tenant; "
        "NEW,OLD rotates; no flag",
    )
    open_reflection: bool = Field(
        True, description="reflection and channelz need no credentials; health never does"
    )

    @property
    def tells_callers_apart(self) -> bool:
        """Whether a call needs credentials."""
        return bool(self.api_keys_file or self.jwks_file)

    @model_validator(mode="after")
    def _tokens_are_bound(self) -> Self:
        if self.jwks_file and not (self.jwt_issuer and self.jwt_audience):
            raise ValueError("with MAAS_JWKS_FILE, set MAAS_JWT_ISSUER and MAAS_JWT_AUDIENCE too")
        return self
