"""`maas console`: the web page, served by Envoy before the gateway, in the foreground."""

import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cli import edge, metrics_token, ports, runfile
from cli.metrics_token import TokenFile
from cli.options import HOME, Home, Json
from cli.program import GATEWAY, METRICS_OFFSET, PORTS, reachable
from cli.render import out, print_json
from cli.tls import tls_of
from services.runtime.errors import PreconditionFailed, Unavailable
from services.runtime.tls.settings import TlsSettings, is_loopback

STARTS_WITHIN_S, ENDS_WITHIN_S = 20.0, 10.0
NOT_LENT = "metrics ask for a token, which is lent to nobody beyond this machine: some charts stay empty"

Port = Annotated[int, typer.Option(envvar="MAAS_CONSOLE_PORT", min=1, max=65535, help="Port of the page.")]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Gateway = Annotated[
    str, typer.Option("--address", envvar="MAAS_ADDRESS", help="The gateway; unset: that of the running suite.")
]
Plaintext = Annotated[
    bool, typer.Option("--plaintext", envvar="MAAS_PLAINTEXT", help="Serve others than this machine in clear.")
]


def console(
    port: Port = 8081,
    host: Host = "127.0.0.1",
    address: Gateway = "",
    plaintext: Plaintext = False,
    metrics_token_file: TokenFile = None,
    home: Home = HOME,
    as_json: Json = False,
) -> None:
    """Serve the web page: status, model cards, every task to try. Ctrl-C stops it."""
    run = runfile.load(home)
    programs, tls = running(run, os.environ)
    if not (is_loopback(host) or tls.tls or plaintext):
        text = f"{host} would be served in clear: set MAAS_TLS_CERTIFICATE and MAAS_TLS_KEY, or take --plaintext"
        raise PreconditionFailed(text)
    if not ports.is_free(host, port):
        text = f"{host}:{port} is in use: choose another with --port, or end what listens there"
        raise PreconditionFailed(text, reason="PORT_IN_USE")
    token = metrics_token.chosen(metrics_token_file, run if programs and not address else None)
    metrics_token.header(token)  # of no use: said now
    gateway = address or programs.get(GATEWAY, f"127.0.0.1:{PORTS[GATEWAY]}")
    metrics = metrics_of(programs if not address else {}, gateway)
    chosen = edge.configuration(host, port, gateway, metrics, tls, token)
    secure = tls.tls and not is_loopback(host)
    with envoy(home, chosen) as process:
        serving = await_page(process, reachable(host), port, secure, home)
        refused = refusal(host, port, secure, token)
        url = f"http{'s' if secure else ''}://{'localhost' if is_loopback(host) else host}:{port}"
        if as_json:
            print_json({"url": url, "gateway": gateway, "serving": serving, "refusal": refused})
        else:
            tell(url, gateway, serving, refused)
        wait(process, home)


def tell(url: str, gateway: str, serving: bool, refused: str) -> None:
    """Where the page is, and what is missing behind it."""
    lines = [f"The console: [bold]{url}[/bold]   (gateway {gateway}; Ctrl-C stops it)"]
    if not serving:
        lines.append(f"The gateway at {gateway} does not serve yet: `maas up` starts one.")
    if refused:
        lines.append(escape(refused))
    out().print("\n".join(lines), highlight=False)


def running(run: runfile.Run | None, environ: Mapping[str, str]) -> tuple[dict[str, str], TlsSettings]:
    """Addresses of the programs of that suite, if it does run, and how they speak TLS."""
    if run is None or not run.supervisor.alive:
        return {}, tls_of(environ)
    programs = {name: found.address for name, found in run.programs.items() if name in PORTS}
    return programs, tls_of({**run.tls, **environ})


def metrics_of(programs: Mapping[str, str], gateway: str) -> dict[str, str]:
    """Where each program tells its metrics, as `maas up` lays the ports."""
    found = {}
    for name, address in {**programs, GATEWAY: gateway}.items():
        host, _, port = address.rpartition(":")
        if int(port) + METRICS_OFFSET < 1 << 16:
            found[name] = f"{host}:{int(port) + METRICS_OFFSET}"
    return found


@contextmanager
def envoy(home: Path, configuration: Mapping[str, object]) -> Iterator["subprocess.Popen[bytes]"]:
    """Envoy while the block runs, in a session of its own: Ctrl-C reaches us, and we end it."""
    folder = home / "console"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "envoy.json").write_text(json.dumps(configuration, indent=2))
    command = [program(), "-c", str(folder / "envoy.json"), "--disable-hot-restart", "--concurrency", "1"]
    with (folder / "envoy.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):
            yield process
    finally:
        signal.signal(signal.SIGTERM, before)
        process.terminate()
        try:
            process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()


def program() -> str:
    """Envoy's: beside this Python, or on the path."""
    beside = Path(sys.executable).with_name("envoy")
    found = str(beside) if beside.is_file() else shutil.which("envoy")
    if found is None:
        raise PreconditionFailed("Envoy is not installed: `make console` installs what the console needs")
    return found


def await_page(process: "subprocess.Popen[bytes]", host: str, port: int, secure: bool, home: Path) -> bool:
    """Waits until the page is served; whether a gateway behind it is healthy. Unavailable: Envoy's last words."""
    end = time.monotonic() + STARTS_WITHIN_S
    while process.poll() is None and time.monotonic() < end:
        with suppress(OSError, http.client.HTTPException):
            if healthy(host, port, secure) or time.monotonic() > end - STARTS_WITHIN_S + 2:
                return healthy(host, port, secure)
        time.sleep(0.05)
    log = home / "console" / "envoy.log"
    raise Unavailable(f"Envoy did not come up; {log} ends:\n{log.read_text(errors='replace')[-1500:]}")


def healthy(host: str, port: int, secure: bool) -> bool:
    """What Envoy says of the gateway; OSError while it does not listen."""
    return status_of("/healthz", host, port, secure) == http.HTTPStatus.OK


def refusal(host: str, port: int, secure: bool, token: Path | None) -> str:
    """What to say where the gateway tells its metrics to nobody without another token; else nothing."""
    with suppress(OSError, http.client.HTTPException):
        if status_of(f"/metrics/{GATEWAY}", reachable(host), port, secure) == http.HTTPStatus.UNAUTHORIZED:
            lent = token is None or is_loopback(host)
            return metrics_token.refusal([GATEWAY], token) if lent else NOT_LENT
    return ""


def status_of(path: str, host: str, port: int, secure: bool) -> int:
    """How Envoy answers a GET."""
    link = (
        http.client.HTTPSConnection(host, port, timeout=5, context=ssl._create_unverified_context())  # nosec B323
        if secure
        else http.client.HTTPConnection(host, port, timeout=5)
    )
    try:
        link.request("GET", path)
        return link.getresponse().status
    finally:
        link.close()


def wait(process: "subprocess.Popen[bytes]", home: Path) -> None:
    """Until Ctrl-C; Unavailable if Envoy ends before."""
    code = process.wait()
    raise Unavailable(f"Envoy ended with {code}; see {home / 'console' / 'envoy.log'}")
