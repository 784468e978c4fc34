"""A model's metadata and configuration in the words of the Open Inference Protocol. Knows no tensor's content."""

from collections.abc import Sequence

from maas.oip.v1 import grpc_service_pb2 as pb
from services.runtime.oip_model import Inferable
from services.runtime.store.manifest import Manifest, TensorSpec

_PLATFORMS = {"onnxruntime": "onnxruntime_onnx", "torch": "pytorch"}
_BACKENDS = {"torch": "pytorch"}


def metadata(model: Inferable, versions: Sequence[int]) -> pb.ModelMetadataResponse:
    """Tensors and properties; `versions` are those that may be asked for."""
    manifest = model.manifest
    reply = pb.ModelMetadataResponse(
        name=manifest.name, versions=[str(version) for version in versions], platform=_platform(manifest)
    )
    for spec in model.oip_inputs:
        reply.inputs.add(name=spec.name, datatype=spec.dtype, shape=spec.shape)
    for spec in model.oip_outputs:
        reply.outputs.add(name=spec.name, datatype=spec.dtype, shape=spec.shape)
    for key, value in manifest.preprocessing.items():
        reply.properties[key] = str(value)
    return reply


def config(model: Inferable, versions: Sequence[int]) -> pb.ModelConfig:
    """What a client can set its requests up by."""
    manifest, rows = model.manifest, _most_rows(model)
    found = pb.ModelConfig(
        name=manifest.name,
        platform=_platform(manifest),
        backend=_BACKENDS.get(manifest.runner, manifest.runner),
        version_policy=pb.ModelVersionPolicy(specific=pb.ModelVersionPolicy.Specific(versions=versions)),
        max_batch_size=rows,
        input=[
            pb.ModelInput(name=spec.name, data_type=_type(spec), dims=_dims(spec, rows))
            for spec in model.oip_inputs
        ],
        output=[_output(model, spec, rows) for spec in model.oip_outputs],
        instance_group=[pb.ModelInstanceGroup(name=manifest.name, count=1)],
        model_transaction_policy=pb.ModelTransactionPolicy(decoupled=False),
        response_cache=pb.ModelResponseCache(enable=False),
    )
    _schedule(found, model)
    for key, value in {"precision": manifest.precision, "digest": manifest.digest}.items():
        found.parameters[key].string_value = value
    return found


def _schedule(found: pb.ModelConfig, model: Inferable) -> None:
    """Batches are cut when the device is free, never on a clock: the longest delay is 0."""
    if model.oip_idle_s is None:
        found.dynamic_batching.max_queue_delay_microseconds = 0
        found.dynamic_batching.SetInParent()
    else:
        found.sequence_batching.max_sequence_idle_microseconds = round(model.oip_idle_s * 1e6)


def _output(model: Inferable, spec: TensorSpec, rows: int) -> pb.ModelOutput:
    file = model.manifest.labels if model.oip_labels.get(spec.name) else None
    return pb.ModelOutput(name=spec.name, data_type=_type(spec), dims=_dims(spec, rows), label_filename=file or "")


def _most_rows(model: Inferable) -> int:
    """0 where a tensor has no axis but the rows: in these words such a model does not batch."""
    specs = (*model.oip_inputs, *model.oip_outputs)
    return 0 if any(len(spec.shape) < 2 for spec in specs) else model.oip_rows


def _dims(spec: TensorSpec, rows: int) -> Sequence[int]:
    """A batching model's axes are told without the rows."""
    return spec.shape[1:] if rows else spec.shape


def _type(spec: TensorSpec) -> "pb.DataType.ValueType":
    return pb.DataType.Value(f"TYPE_{'STRING' if spec.dtype == 'BYTES' else spec.dtype}")


def _platform(manifest: Manifest) -> str:
    return _PLATFORMS.get(manifest.runner, manifest.runner)
