"""What is asked of the models' own service, and how its answers are read."""

from collections.abc import Mapping
from typing import Any, Unpack

from google.protobuf.json_format import MessageToDict

from maas.model.v1 import model_pb2
from maas.model.v1 import model_service_pb2 as pb
from maas_client.call import Ask, CallInfo, How, how
from maas_client.results import Batch, Model

SERVICE = "maas.model.v1.ModelService"


def models(task: str = "", **options: Unpack[How]) -> Ask[Batch[Model]]:
    """Every model there is, or those of one task, for example `vision.classify`."""
    request = pb.ListModelsRequest(task=task)
    return Ask(f"{SERVICE}/ListModels", request, pb.ListModelsResponse, listed, how(options))


def model(name: str, version: str = "", **options: Unpack[How]) -> Ask[Model]:
    """One with its card, preprocessing and class names."""
    request = pb.GetModelRequest(model=name, version=version)
    return Ask(
        f"{SERVICE}/GetModel", request, pb.GetModelResponse, lambda reply, _: one(reply.model), how(options)
    )


def listed(reply: Any, info: CallInfo) -> Batch[Model]:
    return Batch(tuple(map(one, reply.models)), info)


def one(message: model_pb2.Model) -> Model:
    return Model(
        *(message.name, message.version, message.digest, message.service, tuple(message.tasks)),
        model_pb2.ModelState.Name(message.state).removeprefix("MODEL_STATE_"),
        *(message.state_reason, message.architecture, message.description, message.runner, message.precision),
        *(message.licence, tuple(message.version_labels), tuple(message.default_for), dict(message.limits)),
        *(_plain(message.card), _plain(message.preprocessing), tuple(message.class_names)),
    )


def _plain(struct: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = MessageToDict(struct)
    return found
