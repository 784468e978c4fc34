"""Silero VAD at 16 kHz: one speech probability for each frame of 512 samples.

Knows no session and no batching; all memory between frames goes in and out as tensors.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FRAME_SAMPLES = 512
CONTEXT_SAMPLES = 64
HIDDEN = 128
STFT_WINDOW = 256
STFT_HOP = 128
ENCODER = ((129, 128, 1), (128, 64, 2), (64, 64, 2), (64, 128, 1))

RENAME = {
    r"^_model\.": "",
    r"^stft\.forward_basis_buffer$": "stft_basis",
    r"\.reparam_conv\.": ".",
    r"^decoder\.rnn\.": "cell.",
    r"^decoder\.decoder\.2\.": "head.",
}
IGNORE = (r"^_model_8k\.",)


class SileroVAD(nn.Module):
    """Fixed STFT basis → four 1-D convolutions → LSTM cell → 1×1 convolution → sigmoid."""

    def __init__(self, _config: Mapping[str, Any]) -> None:
        super().__init__()
        self.register_buffer("stft_basis", torch.randn(STFT_WINDOW + 2, 1, STFT_WINDOW) / STFT_WINDOW)
        self.encoder = nn.ModuleList(nn.Conv1d(i, o, 3, stride=s, padding=1) for i, o, s in ENCODER)
        self.cell = nn.LSTMCell(HIDDEN, HIDDEN)
        self.head = nn.Conv1d(HIDDEN, 1, 1)

    def forward(self, audio: Tensor, state: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Speech probability of a frame.

        audio: float32 [B, 512] in [-1, 1]; state: float32 [2, B, 128] (h, c); context: float32 [B, 64],
        the samples before the frame. All three are zero at the start of a stream.
        Returns probability [B, 1] and the state and context of the next frame.
        """
        samples = torch.cat([context, audio], dim=1)
        features = self._magnitudes(samples)
        for conv in self.encoder:
            features = F.relu(conv(features))
        hidden, cell = self.cell(features.squeeze(-1), (state[0], state[1]))
        probability = torch.sigmoid(self.head(F.relu(hidden).unsqueeze(-1))).mean(dim=2)
        return probability, torch.stack([hidden, cell]), samples[:, -CONTEXT_SAMPLES:]

    def _magnitudes(self, samples: Tensor) -> Tensor:
        """[B, 576] samples → [B, 129, 4] STFT magnitudes; the basis holds cosines, then sines."""
        padded = F.pad(samples.unsqueeze(1), (0, CONTEXT_SAMPLES), mode="reflect")
        spectrum = F.conv1d(padded, self.get_buffer("stft_basis"), stride=STFT_HOP)
        real, imaginary = spectrum.chunk(2, dim=1)
        return torch.sqrt(real.square() + imaginary.square())
