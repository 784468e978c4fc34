"""Clusters of Envoy that show a token to those they ask. Knows neither page nor route; reads no token itself."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

EXTENSIONS = "type.googleapis.com/envoy.extensions"
SECRET = "metrics-token"


def show_token(clusters: Iterable[dict[str, Any]], file: Path) -> list[dict[str, Any]]:
    """Has each cluster send what `file` holds when Envoy starts, in the place of what a browser sends; returns the
    secret that Envoy is to know, by the file's name alone."""
    for cluster in clusters:
        cluster["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http_protocol_options": {}},
                "http_filters": [_injector(), _codec()],
            }
        }
    return [{"name": SECRET, "generic_secret": {"secret": {"filename": str(file.absolute())}}}]


def _injector() -> dict[str, Any]:
    credential = {
        "@type": f"{EXTENSIONS}.http.injected_credentials.generic.v3.Generic",
        "credential": {"name": SECRET},
        "header_value_prefix": "Bearer ",
    }
    return {
        "name": "envoy.filters.http.credential_injector",
        "typed_config": {
            "@type": f"{EXTENSIONS}.filters.http.credential_injector.v3.CredentialInjector",
            "overwrite": True,
            "credential": {"name": "envoy.http.injected_credentials.generic", "typed_config": credential},
        },
    }


def _codec() -> dict[str, Any]:
    kind = f"{EXTENSIONS}.filters.http.upstream_codec.v3.UpstreamCodec"
    return {"name": "envoy.filters.http.upstream_codec", "typed_config": {"@type": kind}}
