"""Where the control plane is, and who asks it: gRPC's bootstrap file (gRFC A27), as far as endpoints need it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict, ParseError

from maas.internal.v1 import xds_pb2


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """`credentials`: None for plain text."""

    server: str
    node: xds_pb2.DiscoveryNode
    credentials: grpc.ChannelCredentials | None = None


def load(path: Path) -> Bootstrap:
    """Raises ValueError saying what is wrong with the file; OSError."""
    try:
        table: Any = json.loads(path.read_text(encoding="utf-8"))
        server = table["xds_servers"][0]
        node = ParseDict(table.get("node", {}), xds_pb2.DiscoveryNode(), ignore_unknown_fields=True)
        return Bootstrap(str(server["server_uri"]), node, _credentials(server.get("channel_creds", [])))
    except (json.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError, ParseError) as error:
        raise ValueError(f"{path} is no xDS bootstrap file: {type(error).__name__}: {error}") from None


def _credentials(offered: list[dict[str, Any]]) -> grpc.ChannelCredentials | None:
    """Of the first kind that is known here."""
    for one in offered:
        if one["type"] == "insecure":
            return None
        if one["type"] == "tls":
            return _tls(one.get("config", {}))
    kinds = ", ".join(str(one["type"]) for one in offered) or "none"
    raise ValueError(f"channel_creds offers {kinds}; insecure and tls are known here")


def _tls(files: dict[str, str]) -> grpc.ChannelCredentials:
    named = (files.get(name) for name in ("ca_certificate_file", "private_key_file", "certificate_file"))
    return grpc.ssl_channel_credentials(*(Path(name).read_bytes() if name else None for name in named))
