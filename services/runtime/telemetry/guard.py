"""Whoever asks for metrics shows a token, where one is set. Knows no metric."""

import hmac
from collections.abc import Callable, Iterable
from typing import Any

from services.runtime.errors import InvalidInput

App = Callable[[dict[str, Any], Any], Iterable[bytes]]
LEAST_BYTES = 16


def token(text: str) -> str:
    """What a file of one holds. Raises InvalidInput for what is short enough to be guessed."""
    found = text.strip()
    if len(found) < LEAST_BYTES or not (found.isascii() and found.isprintable()):
        raise InvalidInput("metrics_token_file", f"must hold {LEAST_BYTES} printable ASCII characters or more")
    return found


def guarded(app: App, wanted: Callable[[], str]) -> App:
    """`app`, for requests with `authorization: Bearer TOKEN`; `wanted`: the token of now."""

    def serve(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        given = str(environ.get("HTTP_AUTHORIZATION", ""))
        if hmac.compare_digest(given.encode(), f"Bearer {wanted()}".encode()):
            return app(environ, start)
        start("401 Unauthorized", [("WWW-Authenticate", "Bearer"), ("Content-Type", "text/plain")])
        return [b"send authorization: Bearer with the token of MAAS_METRICS_TOKEN_FILE\n"]

    return serve
