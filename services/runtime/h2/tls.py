"""TLS of our own server: what a port shows and trusts, as Python's ssl takes it, and who a peer is by it."""

import os
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from services.runtime.tls.material import Material

# A peer that does not finish its goodbye.
GOODBYE_S = 1.0
# The kinds of alternative names that say who somebody is, in RFC 5280's words as Python has them.
NAMES = frozenset({"DNS", "URI", "email", "IP Address"})

Identity = Mapping[str, Sequence[bytes]]


def context_of(material: Material, clients: bool) -> ssl.SSLContext:
    """TLS 1.2 or newer, HTTP/2 by ALPN; `clients`: peers must show a certificate of the authority.

    One for each change of the material: a new one knows no session of the old, so nobody goes on by a certificate
    that was good once. Raises OSError (ssl.SSLError) for material that does not agree.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    with _file(material.chain + b"\n" + material.key) as path:
        context.load_cert_chain(path)
    if clients:
        with _file(material.authority) as path:
            context.load_verify_locations(path)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def identity_of(certificate: Mapping[str, Any] | None) -> Identity:
    """A verified certificate, as ssl tells it, by the names under which gRPC's `auth_context` has it."""
    if not certificate:
        return {}
    subject = [pair for part in certificate.get("subject", ()) for pair in part]
    named = certificate.get("subjectAltName", ())
    return {
        "x509_subject_alternative_name": [text.encode() for kind, text in named if kind in NAMES],
        "x509_common_name": [text.encode() for kind, text in subject if kind == "commonName"],
    }


@contextmanager
def _file(content: bytes) -> Iterator[str]:
    """A file in memory alone: ssl reads keys by path, and a key must not get onto a disk."""
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
