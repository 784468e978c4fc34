"""A collector in a process of its own that only counts: spans come by OTLP, and COUNT tells how many did."""

import argparse

import grpc
import uvloop
from grpc import aio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.runtime.tracing.open import TRACES

COUNT = "/bench.Sink/Count"


async def serve(port: int) -> None:
    """Serves until killed."""
    spans = 0

    async def take(request: bytes, context: aio.ServicerContext) -> bytes:
        nonlocal spans
        groups = ExportTraceServiceRequest.FromString(request).resource_spans
        spans += sum(len(scope.spans) for group in groups for scope in group.scope_spans)
        return b""

    async def count(request: bytes, context: aio.ServicerContext) -> bytes:
        return str(spans).encode()

    server = aio.server()
    for path, handler in ((TRACES, take), (COUNT, count)):
        _, service, name = path.split("/")
        methods = {name: grpc.unary_unary_rpc_method_handler(handler)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
