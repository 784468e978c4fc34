"""What a process tells Prometheus, read once. Computes nothing from it."""

import asyncio
import http
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from cli.program import METRICS_OFFSET
from services.runtime.tls.settings import TlsSettings

TIMEOUT_S = 2.0
Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Scrape:
    """`at`: monotonic seconds. Samples by name. `refused`: there are none to be had without another token."""

    at: float
    samples: Mapping[str, list[tuple[Labels, float]]] = field(default_factory=dict)
    refused: bool = False

    def of(self, name: str, **labels: str) -> Iterator[tuple[Labels, float]]:
        """Samples with these labels, whatever others they have."""
        for found, value in self.samples.get(name, ()):
            if all(found.get(key) == wanted for key, wanted in labels.items()):
                yield found, value

    def sum(self, name: str, **labels: str) -> float:
        return sum(value for _, value in self.of(name, **labels))


def parsed(text: str, at: float) -> Scrape:
    """Raises ValueError for what is no exposition of Prometheus."""
    samples: dict[str, list[tuple[Labels, float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return Scrape(at, samples)


def metrics_url(address: str, tls: bool) -> str:
    """Where the server at `address` tells its metrics, unless it was told another port."""
    host, _, port = address.rpartition(":")
    return f"http{'s' if tls else ''}://{host}:{int(port) + METRICS_OFFSET}/metrics"


async def scrapes(
    addresses: Iterable[str], tls: TlsSettings | None, header: Mapping[str, str]
) -> list[Scrape | None]:
    """One each, at the same time; None for those that do not answer. `header` goes with each request."""
    return await asyncio.gather(*(asyncio.to_thread(_scrape, address, tls, header) for address in addresses))


def _scrape(address: str, tls: TlsSettings | None, header: Mapping[str, str]) -> Scrape | None:
    spoken = tls is not None and bool(tls.tls_paths)
    try:
        request = urllib.request.Request(metrics_url(address, spoken), headers=dict(header))  # nosec B310
        context = _context(tls) if spoken else None
        with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=context) as reply:  # nosec B310
            return parsed(reply.read().decode(), time.monotonic())
    except urllib.error.HTTPError as error:
        with error:
            refused = error.code == http.HTTPStatus.UNAUTHORIZED
            return Scrape(time.monotonic(), refused=True) if refused else None
    except (OSError, ValueError):
        return None


def _context(tls: TlsSettings | None) -> ssl.SSLContext:
    assert tls is not None
    context = ssl.create_default_context(cafile=tls.tls_authority)
    # By its address; whose certificate it is says the authority.
    context.check_hostname = False
    if tls.tls_certificate is not None:
        context.load_cert_chain(tls.tls_certificate, tls.tls_key)
    return context
