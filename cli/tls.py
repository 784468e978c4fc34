"""By what the command line knows servers, and shows itself to them: the `MAAS_TLS_…` of its environment."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from services.runtime.errors import InvalidInput
from services.runtime.tls.settings import TlsSettings


def tls_of(environ: Mapping[str, str]) -> TlsSettings:
    """Raises InvalidInput for files that are of no use."""
    given: dict[str, Any] = {
        key.removeprefix("MAAS_").lower(): value for key, value in tls_variables(environ).items()
    }
    try:
        return TlsSettings(**given)
    except ValidationError as error:
        raise InvalidInput("tls", error.errors()[0]["msg"].removeprefix("Value error, ")) from None


def tls_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Those of `environ` that say how TLS is spoken."""
    names = {f"MAAS_{name.upper()}" for name in TlsSettings.model_fields}
    return {key: value for key, value in environ.items() if key in names}
