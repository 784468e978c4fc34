"""`python -m services.runtime.probe ADDRESS [SERVICE]`: ends 0 if the server there says SERVING.

In clear, or by the TLS of the `MAAS_TLS_…` variables: for probes that speak no gRPC, or none by TLS.
"""

import asyncio
import sys
from collections.abc import Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.runtime.channels import open_channel
from services.runtime.tls.credentials import of_client
from services.runtime.tls.settings import TlsSettings

TIMEOUT_S = 2.0


async def ask(address: str, service: str, tls: TlsSettings) -> str:
    """The state's name, or what went wrong, in one line."""
    credentials = of_client(tls.read_tls()) if tls.tls_paths else None
    async with open_channel(
        address, retry=False, credentials=credentials, server_name=tls.tls_server_name
    ) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            reply = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


def main(arguments: Sequence[str], tls: TlsSettings) -> int:
    """Prints the answer; 0 = SERVING."""
    address, service = [*arguments, ""][:2]
    answer = asyncio.run(ask(address, service, tls))
    print(answer)
    return int(answer != "SERVING")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:], TlsSettings(_env_prefix="MAAS_")))
