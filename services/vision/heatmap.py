"""A heat map drawn over its picture: red spoke for the class, blue against it. Knows no net."""

import io

import numpy as np
from PIL import Image

from services.runtime.pictures.preprocess import ImagePreprocessing, Pixels
from services.runtime.runners.base import Array

FOR, AGAINST = np.array([255, 0, 0], np.float32), np.array([0, 64, 255], np.float32)
STRONGEST = 0.8  # opacity of the colour where the heat is greatest
QUANTILE = 0.99  # heat beyond it is drawn as strong: one wild pixel must not pale all others


def overlay(pixels: Pixels, preprocessing: ImagePreprocessing, heat: Array) -> bytes:
    """Normalised float32 [C, H, W] and its heat [H, W] → a PNG file of H × W, mode RGB: what the net saw."""
    picture = restored(pixels, preprocessing)
    greatest = max(float(np.quantile(np.abs(heat), QUANTILE)), float(np.abs(heat).max()) / 100)
    strength = np.clip(heat / greatest, -1, 1)[..., None] if greatest > 0 else np.zeros((*heat.shape, 1))
    opacity = STRONGEST * np.abs(strength)
    mixed = (1 - opacity) * picture + opacity * np.where(strength > 0, FOR, AGAINST)
    file = io.BytesIO()
    Image.fromarray(mixed.round().astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def restored(pixels: Pixels, preprocessing: ImagePreprocessing) -> Array:
    """Normalised [C, H, W] → float32 [H, W, C] on the 0-255 scale."""
    mean, std = (np.array(scale, np.float32) for scale in (preprocessing.mean, preprocessing.std))
    values = pixels.transpose(1, 2, 0) * std + mean
    shown: Array = np.clip(values, 0, 255)
    return shown
