"""`python faulty_server.py NAME LOG`: answers any call with its name; a "bad" one fails as the method's name says.

Prints its port; writes each call into LOG. Knows no contract.
"""

import os
import sys
import time
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

FAULTS = {"Unavailable": grpc.StatusCode.UNAVAILABLE, "Exhausted": grpc.StatusCode.RESOURCE_EXHAUSTED}


class Faulty(grpc.GenericRpcHandler):
    """`…/Die`, `…/StepSession` and `…/ModelInfer` end the process, `…/Unavailable` and `…/Exhausted` the call.

    `…/Remaining` tells the seconds that the caller still waits; `…/Slow` takes its time; others answer.
    """

    def __init__(self, name: str, log: Path) -> None:
        self._name, self._log = name, log

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        method = details.method.rpartition("/")[2]

        def answer(request: bytes, context: Any) -> bytes:
            with self._log.open("a") as log:
                log.write(f"{method} {self._name}\n")
            if self._name == "bad" and method in ("Die", "StepSession", "ModelInfer"):
                os._exit(9)
            if self._name == "bad" and method in FAULTS:
                context.abort(FAULTS[method], "as told")
            if method == "Slow":
                time.sleep(0.02)
            if method == "Remaining":
                return str(context.time_remaining()).encode()
            return self._name.encode()

        return grpc.unary_unary_rpc_method_handler(answer) if method != "Check" else None


def main(name: str, log: str) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_generic_rpc_handlers((Faulty(name, Path(log)),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main(*sys.argv[1:])
