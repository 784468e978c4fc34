"""The committed configuration of Envoy → one that also serves the console's page. Starts nothing."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cli.edge_token import show_token
from services.runtime.errors import PreconditionFailed
from services.runtime.tls.settings import TlsSettings, is_loopback


def root(source: Path, environment: Path) -> Path:
    """Where page and configuration are: in the repository, or beside the environment that maas is installed to."""
    return source if (source / "console").is_dir() else environment / "share" / "maas"


ROOT = root(Path(__file__).parent.parent, Path(sys.prefix))
COMMITTED = ROOT / "deploy" / "envoy" / "envoy.yaml"
PAGE = ROOT / "console"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
LARGEST_FILE = 1 << 20
# The page runs what it was served with, calls where it came from, and shows pictures it was given as data.
PROTECTION = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}
# Names under which a page of this machine is asked for; by any other, a foreign page could make itself its origin.
LOCAL = ["localhost", "127.0.0.1", "[::1]"]
EXTENSIONS = "type.googleapis.com/envoy.extensions"
TRANSCODER = "envoy.filters.http.grpc_json_transcoder"
# What is no call of a method.
NO_CALL = {TRANSCODER: {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}}


def configuration(
    host: str,
    port: int,
    gateway: str,
    metrics: Mapping[str, str],
    upstream: TlsSettings,
    token: Path | None = None,
) -> dict[str, Any]:
    """Envoy at `host`:`port`, with the page before `gateway`; `metrics`: program → host:port of its /metrics.

    `upstream` says how the gateway and the metrics are reached, and what a listener beyond loopback shows; `token`
    is the file of what metrics ask for. Raises PreconditionFailed where the YAML reader is not installed.
    """
    found = committed()
    del found["admin"]
    resources = found["static_resources"]
    (listener,), (cluster,) = resources["listeners"], resources["clusters"]
    listener["address"] = socket_address(host, port)
    (chain,) = listener["filter_chains"]
    if upstream.tls and not is_loopback(host):
        chain["transport_socket"] = _downstream(upstream)
    _serve(chain["filters"][0]["typed_config"], metrics, LOCAL if is_loopback(host) else ["*"])
    cluster["load_assignment"] = assignment("gateway", gateway)
    told = [_metrics_cluster(name, address) for name, address in metrics.items()]
    # Whoever is not on this machine has no token lent to them.
    if token is not None and is_loopback(host):
        resources["secrets"] = show_token(told, token)
    clusters = [cluster, *told]
    if upstream.tls_authority:
        for each in clusters:
            each["transport_socket"] = _upstream(upstream, http2=each is cluster)
    resources["clusters"] = clusters
    return found


def committed() -> dict[str, Any]:
    """What deploy/envoy says."""
    try:
        import yaml
    except ModuleNotFoundError:
        raise PreconditionFailed(
            "PyYAML is not installed: `make console` installs what the console needs"
        ) from None
    found: dict[str, Any] = yaml.safe_load(COMMITTED.read_text())
    return found


def _serve(manager: dict[str, Any], metrics: Mapping[str, str], domains: list[str]) -> None:
    """Put page and metrics before the routes of the edge, for callers of the same origin alone."""
    routes = manager["route_config"]
    routes["max_direct_response_body_size_bytes"] = LARGEST_FILE
    routes["ignore_port_in_host_matching"] = True
    (site,) = routes["virtual_hosts"]
    site["domains"] = domains
    del site["typed_per_filter_config"]["envoy.filters.http.cors"]
    site["routes"] = [*page(PAGE), *(_metrics_route(name) for name in metrics), *site["routes"]]
    filters = manager["http_filters"]
    filters.insert(0, _same_origin())
    (transcoder,) = (f["typed_config"] for f in filters if f["name"] == TRANSCODER)
    transcoder["proto_descriptor"] = str(ROOT / transcoder["proto_descriptor"])


def page(folder: Path) -> Iterator[dict[str, Any]]:
    """A route for each file; Envoy reads them at its start, so no path leads to another file."""
    for file in sorted(path for path in folder.rglob("*") if path.suffix in TYPES):
        path = "/" if file.name == "index.html" else f"/{file.relative_to(folder)}"
        headers = PROTECTION | {"content-type": f"{TYPES[file.suffix]}; charset=utf-8"}
        yield {
            "match": {"path": path, "headers": [{"name": ":method", "string_match": {"exact": "GET"}}]},
            "direct_response": {"status": 200, "body": {"filename": str(file)}},
            "response_headers_to_add": [_header(name, value) for name, value in headers.items()],
            "typed_per_filter_config": NO_CALL,
        }


def _header(name: str, value: str) -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _same_origin() -> dict[str, Any]:
    """Refuses what a foreign page sends: POST needs no permission of CORS."""
    policy = {
        "@type": f"{EXTENSIONS}.filters.http.csrf.v3.CsrfPolicy",
        "filter_enabled": {"default_value": {"numerator": 100, "denominator": "HUNDRED"}},
    }
    return {"name": "envoy.filters.http.csrf", "typed_config": policy}


def _metrics_route(name: str) -> dict[str, Any]:
    route = {"cluster": f"metrics-{name}", "prefix_rewrite": "/metrics", "timeout": "5s"}
    return {"match": {"path": f"/metrics/{name}"}, "route": route, "typed_per_filter_config": NO_CALL}


def _metrics_cluster(name: str, address: str) -> dict[str, Any]:
    name = f"metrics-{name}"
    load = assignment(name, address)
    return {"name": name, "type": "STRICT_DNS", "connect_timeout": "1s", "load_assignment": load}


def assignment(cluster: str, address: str) -> dict[str, Any]:
    """The one endpoint, host:port, of a cluster."""
    host, _, port = address.rpartition(":")
    endpoint = {"endpoint": {"address": socket_address(host.strip("[]"), int(port))}}
    return {"cluster_name": cluster, "endpoints": [{"lb_endpoints": [endpoint]}]}


def socket_address(host: str, port: int) -> dict[str, Any]:
    address = "127.0.0.1" if host == "localhost" else host.strip("[]")
    return {"socket_address": {"address": address, "port_value": port}}


def _upstream(tls: TlsSettings, *, http2: bool) -> dict[str, Any]:
    context: dict[str, Any] = {"validation_context": {"trusted_ca": {"filename": str(tls.tls_authority)}}}
    if tls.tls:
        context["tls_certificates"] = [_pair(tls)]
    if http2:
        context["alpn_protocols"] = ["h2"]
    kind = f"{EXTENSIONS}.transport_sockets.tls.v3.UpstreamTlsContext"
    return _tls(kind, context, {"sni": tls.tls_server_name} if tls.tls_server_name else {})


def _downstream(tls: TlsSettings) -> dict[str, Any]:
    kind = f"{EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext"
    return _tls(kind, {"tls_certificates": [_pair(tls)]}, {})


def _tls(kind: str, context: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    typed = {"@type": kind, "common_tls_context": context, **more}
    return {"name": "envoy.transport_sockets.tls", "typed_config": typed}


def _pair(tls: TlsSettings) -> dict[str, Any]:
    return {
        "certificate_chain": {"filename": str(tls.tls_certificate)},
        "private_key": {"filename": str(tls.tls_key)},
    }
