"""What a server of the Open Inference Protocol says of itself and of its models' states. Knows no model."""

from maas.oip.v1 import grpc_service_pb2 as pb

NAME, VERSION = "maas", "0.1.0"
_ALWAYS = ("classification", "model_repository", "model_configuration", "binary_tensor_data", "statistics")
# State of a version here → in the words of the protocol, and why it does not answer.
_STATES = {
    "AVAILABLE": ("UNAVAILABLE", "not loaded"),
    "LOADING": ("LOADING", ""),
    "SERVING": ("READY", ""),
    "DRAINING": ("UNLOADING", ""),
    "UNLOADED": ("UNAVAILABLE", "unloaded"),
    "FAILED": ("UNAVAILABLE", "its load failed"),
}


def metadata(sequences: bool) -> pb.ServerMetadataResponse:
    """Name, version and what is really served; `sequences`: whether some model keeps state between requests."""
    extensions = (*_ALWAYS, "sequence") if sequences else _ALWAYS
    return pb.ServerMetadataResponse(name=NAME, version=VERSION, extensions=extensions)


def entry(name: str, version: str, state: str, reason: str) -> pb.RepositoryIndexResponse.ModelIndex:
    """One line of the index; `state` is a name of maas.model.v1.ModelState without its prefix."""
    said, why = _STATES.get(state, ("UNKNOWN", ""))
    return pb.RepositoryIndexResponse.ModelIndex(name=name, version=version, state=said, reason=reason or why)
