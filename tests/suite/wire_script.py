"""Run by test_oip: prints one line per field of the protocol's messages. argv = ours | theirs."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def lines(message: Any) -> Iterator[str]:
    for field in message.fields:
        kind = (field.message_type or field.enum_type).full_name if field.type in (11, 14) else field.type
        yield f"{message.full_name}.{field.name} {field.number} {kind} {field.is_repeated}"
    for nested in message.nested_types:
        yield from lines(nested)


def files(which: str) -> list[Any]:
    if which == "ours":
        root = Path(__file__).parent.parent.parent
        sys.path.insert(0, str(root / "protos" / "gen"))
        from maas.oip.v1 import grpc_service_pb2

        return [grpc_service_pb2]
    from tritonclient.grpc import model_config_pb2, service_pb2

    return [service_pb2, model_config_pb2]


if __name__ == "__main__":
    for module in files(sys.argv[1]):
        for message in module.DESCRIPTOR.message_types_by_name.values():
            print("\n".join(lines(message)))
