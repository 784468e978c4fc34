"""A certificate authority for tests: credentials of a server on localhost, and of clients it can tell apart."""

from datetime import UTC, datetime, timedelta

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """Signs for an hour."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._root = self._signed(self._key.public_key(), "authority", x509.BasicConstraints(True, None))

    def server(self) -> grpc.ServerCredentials:
        """Asks clients for a certificate of this authority."""
        pair = self._pair("server", x509.SubjectAlternativeName([x509.DNSName("localhost")]))
        return grpc.ssl_server_credentials([pair], _pem(self._root), require_client_auth=True)

    def client(self, uri: str, name: str) -> grpc.ChannelCredentials:
        """A client of a URI as alternative name and of a common name."""
        key, chain = self._pair(name, x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]))
        return grpc.ssl_channel_credentials(_pem(self._root), key, chain)

    def _pair(self, name: str, extension: x509.ExtensionType) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        encodings = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return key.private_bytes(*encodings), _pem(self._signed(key.public_key(), name, extension))

    def _signed(
        self, key: ec.EllipticCurvePublicKey, name: str, extension: x509.ExtensionType
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]),
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
            key,
            x509.random_serial_number(),
            now - timedelta(minutes=5),
            now + timedelta(hours=1),
        )
        return builder.add_extension(extension, critical=False).sign(self._key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
