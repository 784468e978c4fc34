"""The HTTP face of the contracts: one scheme for every RPC, and which ones have none."""

from collections.abc import Iterator

from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor

from maas.gateway.v1 import gateway_service_pb2
from maas.generation.v1 import generation_service_pb2
from maas.model.v1 import model_service_pb2
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
}
READING = ("Get", "List", "Watch")
# Administration is not for the edge.
ADMINISTRATIVE = {"LoadModel", "UnloadModel", "SetLabel", "FlushCache"}


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
