"""Export, agreement and choice on nets with random weights; the architectures against slow references."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from services.runtime.errors import PreconditionFailed
from services.runtime.runners.base import Array, Arrays
from services.runtime.runners.choose import choose
from services.runtime.runners.export import export
from services.runtime.runners.onnx_runner import OnnxRunner
from services.runtime.runners.samples import FREE_AXIS, synthesise
from services.runtime.runners.torch_runner import TorchRunner
from services.runtime.store.manifest import Manifest, TensorSpec
from services.vision.models.efficientnet_lite import SamePadConv2d
from services.vision.models.registry import build

FORWARD = {"efficientnet_lite0": (3, 224, 1000, 1280), "mnist_cnn": (1, 28, 10, 256)}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def manifest(architecture: str) -> Manifest:
    channels, side, classes, width = FORWARD[architecture]
    return Manifest(
        name="net",
        version=1,
        tasks=("vision.classify",),
        architecture=architecture,
        inputs=(TensorSpec(name="images", dtype="float32", shape=(-1, channels, side, side)),),
        outputs=(
            TensorSpec(name="logits", dtype="float32", shape=(-1, classes)),
            TensorSpec(name="features", dtype="float32", shape=(-1, width)),
        ),
    )


@pytest.mark.parametrize("architecture", FORWARD)
def test_outputs_have_the_manifests_shapes(architecture: str) -> None:
    described = manifest(architecture)
    runner = TorchRunner(build(architecture, {}), described)
    (sample,) = synthesise(described, [2])
    got = runner.run(sample)
    assert {name: value.shape[1:] for name, value in got.items()} == {
        spec.name: spec.shape[1:] for spec in described.outputs
    }


@pytest.mark.parametrize("architecture", FORWARD)
def test_a_batched_row_equals_the_lone_one(architecture: str) -> None:
    described = manifest(architecture)
    runner = TorchRunner(build(architecture, {}), described)
    (sample,) = synthesise(described, [7])
    together = runner.run(sample)
    for row in range(7):
        alone = runner.run({"images": sample["images"][row : row + 1]})
        for name, value in alone.items():
            np.testing.assert_allclose(together[name][row], value[0], atol=1e-5)


@pytest.mark.parametrize(("size", "kernel", "stride"), [(8, 3, 2), (9, 3, 2), (8, 5, 2), (7, 5, 1), (5, 1, 1)])
def test_same_padding_follows_its_definition(size: int, kernel: int, stride: int) -> None:
    conv = SamePadConv2d(1, 1, kernel, stride, bias=False).requires_grad_(False)
    x = torch.randn(1, 1, size, size)
    outputs = -(-size // stride)
    before = max((outputs - 1) * stride + kernel - size, 0) // 2
    sea = np.zeros((size + 2 * kernel, size + 2 * kernel), np.float32)  # zeros all around
    sea[before : before + size, before : before + size] = x[0, 0].numpy()
    wanted = [
        [
            (sea[y : y + kernel, x : x + kernel] * conv.weight[0, 0].numpy()).sum()
            for x in range(0, outputs * stride, stride)
        ]
        for y in range(0, outputs * stride, stride)
    ]
    np.testing.assert_allclose(conv(x)[0, 0].numpy(), wanted, atol=1e-5)


def test_the_digit_net_is_three_convolutions_and_two_products() -> None:
    net = build("mnist_cnn", {}).eval()
    x = torch.randn(2, 1, 28, 28)
    y = x
    for conv in net.convs:  # type: ignore[union-attr]
        y = F.unfold(F.pad(y, (1, 1, 1, 1)), 3).transpose(1, 2) @ conv.weight.flatten(1).T + conv.bias
        side = round(y.shape[1] ** 0.5)
        y = y.transpose(1, 2).unflatten(2, (side, side)).clamp(min=0)
        cut = side // 2 * 2
        y = y[:, :, :cut, :cut].unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).amax(dim=(3, 5))
    features = (y.flatten(1) @ net.hidden.weight.T + net.hidden.bias).clamp(min=0)
    wanted = features @ net.classifier.weight.T + net.classifier.bias
    torch.testing.assert_close(net(x)[0], wanted, atol=1e-5, rtol=1e-5)


def test_an_unknown_architecture_or_config_is_named() -> None:
    with pytest.raises(PreconditionFailed, match=r"known: .*efficientnet_lite0.*mnist_cnn"):
        build("resnet50", {})
    with pytest.raises(PreconditionFailed, match="depth"):
        build("mnist_cnn", {"depth": 3})


def test_an_agreeing_export_is_kept_and_measured(tmp_path: Path) -> None:
    described = manifest("mnist_cnn")
    module = build("mnist_cnn", {})
    choice = choose(module, described, tmp_path)
    assert choice.agrees and choice.max_error is not None and choice.max_error < 1e-4
    times = choice.card()["runner"]["milliseconds"]
    assert [len(times[name]) for name in ("torch", "onnxruntime")] == [2, 2]
    faster = min(times, key=lambda name: times[name][0] * times[name][1])
    assert choice.runner == faster
    assert str(Path.cwd()).encode() not in (tmp_path / "model.onnx").read_bytes()
    (sample,) = synthesise(described, [5], seed=9)  # a batch size that neither tracing nor choosing saw
    exported = OnnxRunner(tmp_path / "model.onnx", described).run(sample)
    reference = TorchRunner(module, described).run(sample)
    for name, value in reference.items():
        np.testing.assert_allclose(exported[name], value, atol=1e-4)


class Fickle(nn.Module):
    """Says one thing to the exporter and another when it runs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if torch.compiler.is_exporting() else x + 1


class Unexportable(nn.Module):
    """Branches on a value, which a traced graph cannot."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if float(x.sum()) > 0 else x


TINY = Manifest(
    name="tiny",
    version=1,
    tasks=("vision.classify",),
    inputs=(TensorSpec(name="x", dtype="float32", shape=(-1, 4)),),
    outputs=(TensorSpec(name="y", dtype="float32", shape=(-1, 4)),),
)


def test_a_disagreeing_export_is_thrown_away(tmp_path: Path) -> None:
    choice = choose(Fickle(), TINY, tmp_path)
    assert choice.runner == "torch" and not choice.agrees and "disagrees" in choice.reason
    assert not (tmp_path / "model.onnx").exists()


def test_what_cannot_be_exported_runs_on_torch(tmp_path: Path) -> None:
    choice = choose(Unexportable(), TINY, tmp_path)
    assert choice.runner == "torch" and choice.reason.startswith(
        "not exportable: Could not guard on data-dependent"
    )
    assert "\x1b" not in choice.reason and len(choice.reason) < 250
    assert not (tmp_path / "model.onnx").exists()


def test_a_recurrent_net_exports_with_free_batch_and_length(tmp_path: Path) -> None:
    described = TINY.model_copy(
        update={
            "inputs": (TensorSpec(name="x", dtype="float32", shape=(-1, -1, 4)),),
            "outputs": (TensorSpec(name="y", dtype="float32", shape=(-1, 3)),),
        }
    )
    choice = choose(Recurrent(), described, tmp_path)
    assert choice.agrees
    odd: Arrays = {"x": noise(3, 29, 4)}
    assert OnnxRunner(tmp_path / "model.onnx", described).run(odd)["y"].shape == (3, 3)


class Stacked(nn.Module):
    """The exporter writes the steps it is shown into the second layer, or refuses it: its mood decides."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.LSTM(4, 4, batch_first=True) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x, _ = layer(x)
        return x.sum(1)


class Exact(nn.Module):
    """Once exported, it reads as many steps as it was shown, by their numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, torch.arange(FREE_AXIS)] if torch.compiler.is_exporting() else x).sum(1)


class Forgetful(nn.Module):
    """Once exported, it reads no more steps than it was shown, and says nothing of the others."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shown = F.pad(x, (0, 0, 0, FREE_AXIS))[:, :FREE_AXIS]
        return (shown if torch.compiler.is_exporting() else x).sum(1)


FREE = TINY.model_copy(update={"inputs": (TensorSpec(name="x", dtype="float32", shape=(-1, -1, 4)),)})


@pytest.mark.parametrize(("module", "reason"), [(Exact(), "fails where"), (Forgetful(), "disagrees")])
def test_an_export_fixed_to_the_traced_length_is_thrown_away(
    tmp_path: Path, module: nn.Module, reason: str
) -> None:
    export(module, FREE, tmp_path / "model.onnx")
    for sample in synthesise(FREE):  # it agrees at the traced length, whatever the batch
        exported = OnnxRunner(tmp_path / "model.onnx", FREE).run(sample)
        wanted = TorchRunner(module, FREE).run(sample)
        np.testing.assert_allclose(exported["y"], wanted["y"], atol=1e-5)
    choice = choose(module, FREE, tmp_path)
    assert choice.runner == "torch" and not choice.agrees and reason in choice.reason
    assert not (tmp_path / "model.onnx").exists()


def test_stacked_recurrent_layers_are_never_served_at_one_length(tmp_path: Path) -> None:
    assert choose(Stacked(), FREE, tmp_path).runner == "torch"
    assert not (tmp_path / "model.onnx").exists()


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 8, num_layers=2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def noise(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)
