"""Silero VAD against the values its authors' own ONNX file gives for the same synthetic signal."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from services.sequence.models import registry
from tests.models.signals import mixed

FRAMES = mixed().reshape(-1, 512)
# silero_vad.onnx of the 6.2.3 package (sha256 1a153a22f4509e29…) on FRAMES, one after the other.
REFERENCE = np.fromstring(
    """
    0.00167 0.00688 0.00891 0.00786 0.00591 0.00596 0.00585 0.00564 0.00543 0.00520
    0.00505 0.00490 0.00474 0.00459 0.00445 0.00433 0.14103 0.51315 0.73209 0.79310
    0.69173 0.88889 0.92457 0.90609 0.94471 0.94085 0.94805 0.89696 0.84095 0.84947
    0.82024 0.63757 0.73775 0.88212 0.92437 0.85878 0.80673 0.94989 0.98577 0.99223
    0.98358 0.98576 0.98029 0.97184 0.96506 0.98548 0.98209 0.98228 0.92143 0.81028
    0.86755 0.90831 0.96369 0.99054 0.99763 0.99722 0.99349 0.98779 0.98694 0.99544
    0.99332 0.99700 0.99484 0.98546 0.94651 0.79329 0.65718 0.50322 0.40305 0.32219
    0.33531 0.26309 0.21774 0.19404 0.16854 0.21513 0.16138 0.20589 0.12480 0.09991
    """,
    sep=" ",
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def vad(model_store: Any) -> nn.Module:
    manifest = model_store.resolve("silero-vad", "")
    return registry.load(manifest, model_store.directory(manifest))


def listen(module: nn.Module, streams: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities [B, T] of streams [B, T, 512], state carried from frame to frame."""
    state, context = torch.zeros(2, len(streams), 128), torch.zeros(len(streams), 64)
    heard = []
    with torch.inference_mode():
        for frame in torch.from_numpy(streams).unbind(dim=1):
            probability, state, context = module(frame, state, context)
            heard.append(probability[:, 0])
    return torch.stack(heard, dim=1).numpy()


@pytest.mark.models
def test_agrees_with_the_authors_onnx_frame_by_frame(vad: nn.Module) -> None:
    np.testing.assert_allclose(listen(vad, FRAMES[None])[0], REFERENCE, atol=1e-4)


@pytest.mark.models
def test_separates_voice_from_silence(vad: nn.Module) -> None:
    heard = listen(vad, FRAMES[None])[0]
    assert heard[:16].max() < 0.1
    assert heard[18:64].min() > 0.5


@pytest.mark.models
def test_a_stream_hears_nothing_of_its_neighbours(vad: nn.Module) -> None:
    streams = np.stack([FRAMES, FRAMES[::-1], np.zeros_like(FRAMES)])
    together = listen(vad, streams)
    for stream, heard in zip(streams, together, strict=True):
        np.testing.assert_allclose(heard, listen(vad, stream[None])[0], atol=1e-4)  # 80 steps of rounding


def test_state_and_context_shapes_for_any_batch() -> None:
    module = registry.build("silero_vad", {})
    probability, state, context = module(torch.rand(3, 512), torch.zeros(2, 3, 128), torch.zeros(3, 64))
    assert (probability.shape, state.shape, context.shape) == ((3, 1), (2, 3, 128), (3, 64))
