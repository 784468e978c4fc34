"""What `maas console` refuses, and what the Envoy it starts is told: page, gateway, nobody else's origin."""

import json
import re
import socket
from pathlib import Path

import yaml
from typer.testing import CliRunner

from cli import edge
from cli.__main__ import app
from cli.console import metrics_of
from services.runtime.errors import InvalidInput, PreconditionFailed
from services.runtime.tls.settings import TlsSettings

METRICS = {"gateway": "127.0.0.1:5", "vision": "127.0.0.1:6"}


def told(host: str = "127.0.0.1", **tls: object) -> dict:
    return edge.configuration(host, 8081, "localhost:50050", METRICS, TlsSettings.model_construct(**tls))


def site(configuration: dict) -> dict:
    chain = configuration["static_resources"]["listeners"][0]["filter_chains"][0]
    return chain["filters"][0]["typed_config"]


def refusal(tmp_path: Path, *arguments: str) -> PreconditionFailed:
    error = CliRunner().invoke(app, ["console", "--home", str(tmp_path), *arguments]).exception
    assert isinstance(error, PreconditionFailed)
    return error


def test_it_is_not_public_in_clear_unless_told_so(tmp_path: Path) -> None:
    assert "--plaintext" in refusal(tmp_path, "--host", "0.0.0.0").message


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port} is in use" in refusal(tmp_path, "--port", str(port)).message


def test_every_file_of_the_page_has_a_route_and_its_policy() -> None:
    routes = [r for r in site(told())["route_config"]["virtual_hosts"][0]["routes"] if "filename" in str(r)]
    files = {Path(route["direct_response"]["body"]["filename"]) for route in routes}
    assert files == {path for path in edge.PAGE.rglob("*") if path.is_file()}
    for route in routes:
        headers = {h["header"]["key"]: h["header"]["value"] for h in route["response_headers_to_add"]}
        assert "default-src 'none'; script-src 'self'" in headers["content-security-policy"]


def test_foreign_pages_are_kept_out() -> None:
    manager = site(told())
    assert manager["http_filters"][0]["name"] == "envoy.filters.http.csrf"
    here = manager["route_config"]["virtual_hosts"][0]
    assert here["domains"] == ["localhost", "127.0.0.1", "[::1]"]
    assert "cors" not in json.dumps(here)
    assert "admin" not in told()


def test_what_the_edge_refuses_stays_refused() -> None:
    committed = yaml.safe_load(edge.COMMITTED.read_text())
    kept = site(committed)["route_config"]["virtual_hosts"][0]["routes"]
    assert site(told())["route_config"]["virtual_hosts"][0]["routes"][-len(kept) :] == kept


def test_tls_towards_the_gateway_and_beyond_loopback() -> None:
    files = {"tls_authority": Path("ca.pem"), "tls_certificate": Path("a.pem"), "tls_key": Path("a.key")}
    inside, outside = (told(host, **files)["static_resources"] for host in ("127.0.0.1", "0.0.0.0"))
    assert all("transport_socket" in cluster for cluster in inside["clusters"])
    assert "transport_socket" not in inside["listeners"][0]["filter_chains"][0]
    assert "transport_socket" in outside["listeners"][0]["filter_chains"][0]
    assert not any("transport_socket" in cluster for cluster in told()["static_resources"]["clusters"])


def test_metrics_lie_above_the_ports() -> None:
    assert metrics_of({"vision": "10.0.0.1:50052"}, "h:61536") == {"vision": "10.0.0.1:54052"}


def test_the_page_makes_no_markup_of_text() -> None:
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc|\beval\(|new Function"
    for path in edge.PAGE.rglob("*.js"):
        assert not re.search(ways, path.read_text()), path
    assert not re.search(r"https?://|<script>|style=|\son\w+=", (edge.PAGE / "index.html").read_text())


def test_the_metrics_token_is_lent_to_this_machine_alone_and_stays_in_its_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a token that is long enough")
    inside, outside = (
        edge.configuration(host, 8081, "localhost:50050", METRICS, TlsSettings.model_construct(), file)
        for host in ("127.0.0.1", "0.0.0.0")
    )
    assert "long enough" not in json.dumps(inside) and str(file) in json.dumps(inside)
    gateway, *told_by = inside["static_resources"]["clusters"]
    assert all("credential_injector" in json.dumps(cluster) for cluster in told_by)
    assert "credential_injector" not in json.dumps([gateway, outside])


def test_page_and_configuration_are_found_in_the_repository_or_beside_an_environment(tmp_path: Path) -> None:
    source, environment = tmp_path / "site-packages", tmp_path / "opt"
    assert edge.root(source, environment) == environment / "share" / "maas"
    (source / "console").mkdir(parents=True)
    assert edge.root(source, environment) == source


def test_a_token_file_of_no_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    result = CliRunner().invoke(app, ["console", "--home", str(tmp_path), f"--metrics-token-file={absent}"])
    assert isinstance(result.exception, InvalidInput) and f"{absent}: No such file" in result.exception.message
