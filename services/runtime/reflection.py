"""Server reflection under both names. v1 and v1alpha are the same on the wire, so one servicer answers both."""

from collections.abc import Sequence
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.reflection import aio as reflection_aio

import maas.reflection.v1.reflection_pb2  # noqa: F401  so that v1 can describe itself

V1 = "grpc.reflection.v1.ServerReflection"
V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"


def add_reflection(server: Any, services: Sequence[str]) -> None:
    """Makes `services` and both reflection services discoverable."""
    servicer = reflection_aio.ReflectionServicer((*services, V1, V1ALPHA))
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    # Both, as generated code does: some take the one, some the other.
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(V1, {"ServerReflectionInfo": handler}),))
    server.add_registered_method_handlers(V1, {"ServerReflectionInfo": handler})
