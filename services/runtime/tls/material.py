"""What one side of TLS shows and trusts: a key, its chain of certificates, an authority. Opens no port."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from services.runtime.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Material:
    """PEM, each; empty where there is none. `expires`: the end of the certificate's life."""

    key: bytes = b""
    chain: bytes = b""
    authority: bytes = b""
    expires: datetime | None = None

    @property
    def pair(self) -> tuple[bytes, bytes]:
        """Key and chain, as gRPC takes them."""
        return self.key, self.chain


def read(certificate: Path | None, key: Path | None, authority: Path | None) -> Material:
    """Raises InvalidInput for what is no PEM, a key of another certificate, one that is over; or OSError."""
    trusted = _checked(authority)[0] if authority is not None else b""
    if certificate is None or key is None:
        return Material(authority=trusted)
    chain, found = _checked(certificate)
    secret = key.read_bytes()
    if _public(secret, key) != _spki(found[0].public_key()):
        raise InvalidInput("tls_key", f"{key.name} is not the key of {certificate.name}")
    expires = found[0].not_valid_after_utc
    if expires <= datetime.now(UTC):
        raise InvalidInput("tls_certificate", f"{certificate.name} was good until {expires:%Y-%m-%d %H:%M} UTC")
    return Material(secret, chain, trusted, expires)


def _checked(path: Path) -> tuple[bytes, Sequence[x509.Certificate]]:
    """Its bytes, and the certificates in them."""
    data = path.read_bytes()
    try:
        return data, x509.load_pem_x509_certificates(data)
    except ValueError:
        raise InvalidInput("tls_certificate", f"{path.name} holds no certificate in PEM") from None


def _public(secret: bytes, path: Path) -> bytes:
    try:
        return _spki(serialization.load_pem_private_key(secret, None).public_key())
    # TypeError: it asks for a password.
    except (ValueError, TypeError):
        raise InvalidInput("tls_key", f"{path.name} holds no key in PEM without password") from None


def _spki(public: object) -> bytes:
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(public.public_bytes(encoding, form))  # type: ignore[attr-defined]
