"""deploy/kubernetes as kubectl puts it together: documents of each overlay, and questions asked of them."""

import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from gateway.settings import GatewaySettings
from services.generation.settings import GenerationSettings
from services.runtime.settings import ServerSettings
from services.sequence.settings import SequenceSettings
from services.tokenization.settings import TokenizationSettings
from services.vision.settings import VisionSettings
from tests.deploy.dockerfile import ROOT

HOME = ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (HOME / "overlays").iterdir())
SETTINGS: dict[str, type[ServerSettings]] = {
    "gateway": GatewaySettings,
    "tokenization": TokenizationSettings,
    "vision": VisionSettings,
    "sequence": SequenceSettings,
    "generation": GenerationSettings,
}
Document = dict[str, Any]


@cache
def documents(overlay: str) -> list[Document]:
    command = [Path(sys.executable).with_name("kubectl"), "kustomize", HOME / "overlays" / overlay]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(overlay: str, kind: str) -> dict[str, Document]:
    """Name → document."""
    return {found["metadata"]["name"]: found for found in documents(overlay) if found["kind"] == kind}


def pods(overlay: str) -> dict[str, Document]:
    """Service → its pods' template."""
    return {name: found["spec"]["template"] for name, found in of_kind(overlay, "Deployment").items()}


def server(pod: Document) -> Document:
    (container,) = pod["spec"]["containers"]
    return dict(container)


def shared(overlay: str) -> dict[str, str]:
    """The environment of every server."""
    (found,) = of_kind(overlay, "ConfigMap").values()
    return dict(found["data"])


def own(pod: Document) -> dict[str, str | None]:
    """What a server is given besides; None = out of a secret."""
    return {one["name"]: one.get("value") for one in server(pod).get("env", [])}


def settings_of(overlay: str, service: str) -> ServerSettings:
    """What the server would make of its environment, but for files and secrets."""
    cls = SETTINGS[service]
    given = {**shared(overlay), **own(pods(overlay)[service])}
    fields = {name.removeprefix("MAAS_").lower(): value for name, value in given.items() if value is not None}
    plain = {name: value for name, value in fields.items() if name in cls.model_fields and value[0] != "/"}
    plain.pop("tls_clients", None)
    return cls(**plain)


def selectors(overlay: str) -> Iterator[tuple[str, Document]]:
    """Of everything that selects pods: what it is, and the labels that it wants."""
    for found in documents(overlay):
        name, spec = f"{found['kind']}/{found['metadata']['name']}", found.get("spec", {})
        match found["kind"]:
            case "Service":
                yield name, {"matchLabels": spec["selector"]}
            case "PodDisruptionBudget" | "Deployment":
                yield name, spec["selector"]
            case "NetworkPolicy":
                yield name, spec["podSelector"]


def selects(selector: Document, labels: dict[str, str]) -> bool:
    plain = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return plain and all(labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", []))
