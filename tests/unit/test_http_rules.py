"""The HTTP face of the contracts: one scheme for every RPC, and what deploy/envoy does with each."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor

from maas.admin.v1 import admin_service_pb2
from maas.gateway.v1 import gateway_service_pb2
from maas.generation.v1 import generation_service_pb2
from maas.model.v1 import model_service_pb2
from maas.oip.v1 import grpc_service_pb2
from maas.sequence.v1 import sequence_service_pb2
from maas.tokenization.v1 import tokenization_service_pb2
from maas.vision.v1 import vision_service_pb2

AREAS = {
    "tokenization": tokenization_service_pb2,
    "vision": vision_service_pb2,
    "sequence": sequence_service_pb2,
    "generation": generation_service_pb2,
    "model": model_service_pb2,
    "gateway": gateway_service_pb2,
    "admin": admin_service_pb2,
}
ENVOY = Path(__file__).parent.parent.parent / "deploy" / "envoy" / "envoy.yaml"
OIP = grpc_service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
READING = ("Get", "List", "Watch")
# Administration is not for the edge.
ADMINISTRATIVE = {"LoadModel", "UnloadModel", "SetLabel", "FlushCache", "GetLogLevel", "SetLogLevel"}


def methods() -> Iterator[tuple[str, MethodDescriptor]]:
    for area, module in AREAS.items():
        for service in module.DESCRIPTOR.services_by_name.values():
            yield from ((area, method) for method in service.methods)


def told(method: MethodDescriptor) -> str:
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    return f"GET {rule.get}" if rule.get else f"POST {rule.post} {rule.body}" if rule.post else ""


def expected(area: str, method: MethodDescriptor) -> str:
    if method.client_streaming or method.name in ADMINISTRATIVE:
        return ""
    path = f"/v1/{area}:{method.name[0].lower()}{method.name[1:]}"
    return f"GET {path}" if method.name.startswith(READING) else f"POST {path} *"


def test_every_rpc_has_the_path_of_the_scheme_or_none() -> None:
    other = {m.full_name: (told(m), expected(a, m)) for a, m in methods() if told(m) != expected(a, m)}
    assert not other
    assert len([m for _, m in methods() if told(m)]) > 20


def edge() -> tuple[list[dict[str, Any]], list[str]]:
    """Envoy's routes, and the services that it speaks JSON for."""
    listener = yaml.safe_load(ENVOY.read_text())["static_resources"]["listeners"][0]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    (coder,) = (f["typed_config"] for f in manager["http_filters"] if f["name"].endswith("grpc_json_transcoder"))
    return manager["route_config"]["virtual_hosts"][0]["routes"], coder["services"]


def test_envoy_speaks_json_for_every_service_that_has_paths() -> None:
    assert set(edge()[1]) == {m.containing_service.full_name for _, m in methods() if told(m)}


def route_of(method: MethodDescriptor) -> dict[str, Any]:
    """The first that matches, as Envoy takes it."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    matches = ((r, r["match"]) for r in edge()[0])
    return next(r for r, m in matches if m.get("path") == path or path.startswith(m.get("prefix", "no path")))


def test_envoy_refuses_administration_and_lets_everything_else_through() -> None:
    routes = {m.full_name: route_of(m) for m in [*(m for _, m in methods()), *OIP.methods]}
    refused = {name for name, route in routes.items() if route.get("direct_response", {}).get("status") == 403}
    assert {name.rpartition(".")[2] for name in refused} == {
        *ADMINISTRATIVE,
        *("RepositoryModelLoad", "RepositoryModelUnload"),
    }
    assert {routes[name]["route"]["cluster"] for name in set(routes) - refused} == {"gateway"}
