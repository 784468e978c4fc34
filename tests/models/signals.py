"""Synthetic 16 kHz signals: something a voice detector hears as speech, and something it does not."""

import numpy as np
from numpy.typing import NDArray

RATE = 16000
FORMANTS = ((1.0, 500, 250, 2.1, 80), (0.6, 1500, 600, 1.7, 110), (0.3, 2500, 200, 1.1, 150))


def voiced(seconds: float) -> NDArray[np.float32]:
    """A buzz of 39 harmonics shaped by three moving formants, four syllables a second; peak 0.3."""
    t = np.arange(int(seconds * RATE)) / RATE
    pitch = 120 + 25 * np.sin(2 * np.pi * 1.3 * t) + 10 * np.sin(2 * np.pi * 3.1 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    centres = [(gain, mid + swing * np.sin(2 * np.pi * hz * t), width) for gain, mid, swing, hz, width in FORMANTS]
    signal = sum(
        sum(gain / (1 + ((k * pitch - centre) / width) ** 2) for gain, centre, width in centres)
        * np.cos(k * phase)
        for k in range(1, 40)
    )
    signal = signal * (0.5 - 0.5 * np.cos(2 * np.pi * 4 * t))
    return (0.3 * signal / np.abs(signal).max()).astype(np.float32)


def hiss(seconds: float) -> NDArray[np.float32]:
    """White noise, standard deviation 0.02."""
    noise = np.random.default_rng(0).standard_normal(int(seconds * RATE))
    return (0.02 * noise).astype(np.float32)


def mixed() -> NDArray[np.float32]:
    """16 frames of silence, 48 voiced, 16 of hiss: 80 frames of 512 samples."""
    frame = 512 / RATE
    silence = np.zeros(16 * 512, np.float32)
    return np.concatenate([silence, voiced(48 * frame), hiss(16 * frame)])
