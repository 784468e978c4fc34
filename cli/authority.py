"""A certificate authority for development: signs what a suite and its callers show. Keeps its key in a file."""

import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

CERTIFICATE, KEY = "authority.pem", "authority.key"
AUTHORITY_DAYS = 3650
LATE = timedelta(minutes=5)  # clocks differ

Extensions = Iterable[tuple[x509.ExtensionType, bool]]


class Authority:
    """In a directory; made there on first use. An elliptic curve of 256 bits, as TLS 1.3 has it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        if not (directory / CERTIFICATE).exists():
            self._make()
        self._key = serialization.load_pem_private_key((directory / KEY).read_bytes(), None)
        self._root = x509.load_pem_x509_certificate((directory / CERTIFICATE).read_bytes())

    def issue(self, name: str, hosts: Iterable[str], days: float) -> tuple[Path, Path]:
        """A certificate for `hosts` (names and addresses; none: a caller's) and its key; the paths of both."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [_general(host) for host in hosts] or [x509.UniformResourceIdentifier(f"maas:{name}")]
        extensions = [(x509.SubjectAlternativeName(names), False), (x509.BasicConstraints(False, None), True)]
        signed = _signed(key.public_key(), name, self._root.subject, self._key, timedelta(days=days), extensions)
        return self._write(name, signed, key)

    def _make(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _subject("MaaS development authority")
        extensions: Extensions = [(x509.BasicConstraints(True, 0), True)]
        days = timedelta(days=AUTHORITY_DAYS)
        signed = _signed(key.public_key(), "MaaS development authority", subject, key, days, extensions)
        self._write(Path(CERTIFICATE).stem, signed, key)

    def _write(self, name: str, signed: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> tuple[Path, Path]:
        """The key first: who follows both takes neither until they agree."""
        form = serialization.PrivateFormat.PKCS8
        secret = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        chain, private = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        _replace(private, secret, 0o600)
        _replace(chain, signed.public_bytes(serialization.Encoding.PEM), 0o644)
        return chain, private


def _signed(
    public: ec.EllipticCurvePublicKey,
    name: str,
    issuer: x509.Name,
    by: object,
    life: timedelta,
    extensions: Extensions,
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        issuer, _subject(name), public, x509.random_serial_number(), now - LATE, now + life
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(by, hashes.SHA256())  # type: ignore[arg-type]


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _replace(path: Path, data: bytes, mode: int) -> None:
    """Whole or not at all, and never readable by others in between."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(data)
    beside.replace(path)
