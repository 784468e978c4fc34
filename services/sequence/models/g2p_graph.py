"""Grapheme to phoneme as an ONNX graph, written operator by operator. Runs at publish time only.

torch's exporter follows neither packed rows nor a loop that ends where the words do. ONNX has both: a GRU that
knows where each row ends, and a loop.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from services.runtime.store.manifest import Manifest
from services.sequence.models.g2p import GraphemeToPhoneme

OPSET, IR_VERSION = 18, 9
BOOL, FLOAT, IDS = TensorProto.BOOL, TensorProto.FLOAT, TensorProto.INT64
CARRIED = (("token", IDS, ["rows"]), ("hidden", FLOAT, ["rows", "width"]), ("stopped", BOOL, ["rows"]))


def export(module: GraphemeToPhoneme, manifest: Manifest, path: Path) -> None:
    """Writes `module` to `path`: graphemes [B, T], lengths [B] → phonemes and log probabilities [B, S]."""
    given, made = [spec.name for spec in manifest.inputs], [spec.name for spec in manifest.outputs]
    graph = helper.make_graph(
        [*_encoder(given[0], given[1], module.encoder.hidden_size), *_decoder(made)],
        manifest.architecture,
        [_value(given[0], IDS, ["rows", "letters"]), _value(given[1], IDS, ["rows"])],
        [_value(made[0], IDS, ["rows", "steps"]), _value(made[1], FLOAT, ["rows", "steps"])],
        list(_weights(module)),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _encoder(graphemes: str, lengths: str, width: int) -> Iterator[NodeProto]:
    """`state`: [B, H] after each row's own last letter."""
    yield _node("Cast", [lengths], "ends", to=TensorProto.INT32)
    yield _node("Transpose", [graphemes], "by_step", perm=[1, 0])
    yield _node("Gather", ["letters", "by_step"], "steps")
    given = ["steps", "encoder_w", "encoder_r", "encoder_b", "ends"]
    yield helper.make_node("GRU", given, ["", "last"], hidden_size=width, linear_before_reset=1)
    yield _node("Squeeze", ["last", "first_axis"], "state")


def _decoder(made: Sequence[str]) -> Iterator[NodeProto]:
    yield _node("Cast", ["ends"], "ends_64", to=IDS)
    yield _node("Less", ["ends_64", "zero"], "none_stopped")
    yield _node("Mul", ["ends_64", "zero"], "zeros")
    yield _node("Add", ["zeros", "start"], "first")
    ends, tables = ["last_token", "last_hidden", "last_stopped"], ["by_step_phonemes", "by_step_scores"]
    yield helper.make_node(
        "Loop",
        ["most", "go_on", "first", "state", "none_stopped"],
        [*ends, *tables],
        body=_body(),
    )
    for table, name in zip(tables, made, strict=True):
        yield _node("Transpose", [table], name, perm=[1, 0])


def _body() -> GraphProto:
    """One phoneme of every row: a GRU cell, and the best of what it says."""
    state = [_value(f"next_{name}", kind, shape) for name, kind, shape in CARRIED]
    return helper.make_graph(
        [*_cell(), *_best()],
        "phoneme",
        [_value("step", IDS, []), _value("going", BOOL, []), *(_value(*one) for one in CARRIED)],
        [_value("go", BOOL, []), *state, _value("phoneme", IDS, ["rows"]), _value("score", FLOAT, ["rows"])],
    )


def _cell() -> Iterator[NodeProto]:
    """h′ = n + z (h − n); r, z, n of Cho et al. 2014 as torch computes them."""
    yield _node("Gather", ["phonemes_in", "token"], "given")
    yield _node("Gemm", ["hidden", "cell_w", "cell_b"], "kept", transB=1)
    for source in ("given", "kept"):
        parts = [f"{source}_{gate}" for gate in "rzn"]
        yield helper.make_node("Split", [source], parts, axis=1, num_outputs=3)
    for gate in "rz":
        yield _node("Add", [f"given_{gate}", f"kept_{gate}"], f"sum_{gate}")
        yield _node("Sigmoid", [f"sum_{gate}"], gate)
    yield _node("Mul", ["r", "kept_n"], "reset")
    yield _node("Add", ["given_n", "reset"], "sum_n")
    yield _node("Tanh", ["sum_n"], "n")
    yield _node("Sub", ["hidden", "n"], "change")
    yield _node("Mul", ["z", "change"], "held")
    yield _node("Add", ["n", "held"], "next_hidden")


def _best() -> Iterator[NodeProto]:
    """What a row says once it has stopped is padding; the loop ends when all have."""
    yield _node("Gemm", ["next_hidden", "head_w", "head_b"], "logits", transB=1)
    yield _node("LogSoftmax", ["logits"], "log_probs_of_all", axis=-1)
    yield _node("ArgMax", ["logits"], "next_token", axis=-1, keepdims=0)
    yield _node("ReduceMax", ["log_probs_of_all", "last_axis"], "best", keepdims=0)
    yield _node("Where", ["stopped", "pad", "next_token"], "phoneme")
    yield _node("Where", ["stopped", "no_score", "best"], "score")
    yield _node("Equal", ["next_token", "stop"], "stops")
    yield _node("Or", ["stopped", "stops"], "next_stopped")
    yield _node("Cast", ["next_stopped"], "counted", to=TensorProto.INT32)
    yield _node("ReduceMin", ["counted"], "all_stopped", keepdims=0)
    yield _node("Equal", ["all_stopped", "false"], "go")


def _weights(module: GraphemeToPhoneme) -> Iterator[TensorProto]:
    encoder, cell = module.encoder, module.decoder
    yield _named("letters", module.encoder_embedding.weight)
    biases = [_gates(encoder, "bias_ih_l0"), _gates(encoder, "bias_hh_l0")]
    yield _named("encoder_w", _gates(encoder, "weight_ih_l0")[None])
    yield _named("encoder_r", _gates(encoder, "weight_hh_l0")[None])
    yield _named("encoder_b", torch.cat(biases)[None])
    with torch.no_grad():  # of each phoneme, what the cell makes of it: there are few
        yield _named("phonemes_in", module.decoder_embedding.weight @ cell.weight_ih.T + cell.bias_ih)
    yield from (_named("cell_w", cell.weight_hh), _named("cell_b", cell.bias_hh))
    yield from (_named("head_w", module.head.weight), _named("head_b", module.head.bias))
    numbers = {"start": module.start_id, "stop": module.stop_id, "pad": module.pad_id, "most": module.max_steps}
    yield from (_array(name, np.int64(number)) for name, number in {**numbers, "zero": 0}.items())
    yield from (_array("first_axis", np.array([0])), _array("last_axis", np.array([-1])))
    yield from (_array("no_score", np.float32(0)), _array("false", np.int32(0)), _array("go_on", np.bool_(True)))


def _gates(layer: nn.Module, name: str) -> Tensor:
    """torch's order (reset, update, new) → that of ONNX (update, reset, hidden)."""
    r, z, n = layer.get_parameter(name).detach().chunk(3)
    return torch.cat([z, r, n])


def _node(operator: str, given: Sequence[str], made: str, **attributes: Any) -> NodeProto:
    return helper.make_node(operator, given, [made], **attributes)


def _value(name: str, kind: int, shape: Sequence[str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _named(name: str, values: Tensor) -> TensorProto:
    return _array(name, values.detach().cpu().numpy())


def _array(name: str, values: np.ndarray | np.generic) -> TensorProto:
    return numpy_helper.from_array(np.asarray(values), name)
