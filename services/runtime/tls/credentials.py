"""Credentials of gRPC from certificate files. A changed certificate is shown to the next who connects."""

import grpc

from services.runtime.followed import Followed
from services.runtime.tls.material import Material


def of_server(followed: Followed[Material], clients: bool) -> grpc.ServerCredentials:
    """`clients`: callers must show a certificate of the authority. Connections that stand are not touched."""
    shown = followed.value

    def changed() -> grpc.ServerCertificateConfiguration | None:
        """Asked by core at every handshake; None = as before."""
        nonlocal shown
        if followed.value is shown:
            return None
        shown = followed.value
        return _configuration(shown)

    return grpc.dynamic_ssl_server_credentials(_configuration(shown), changed, clients)


def of_client(material: Material) -> grpc.ChannelCredentials:
    """Trusts the authority, or without one what the system trusts; shows the certificate, if there is one."""
    key, chain = material.pair
    return grpc.ssl_channel_credentials(material.authority or None, key or None, chain or None)


def _configuration(material: Material) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([material.pair], material.authority or None)
