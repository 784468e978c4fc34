"""Devices and number formats that torch computes in, by the names of the settings. Knows no model."""

from collections.abc import Mapping

import torch
from torch import Tensor

DTYPES: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CPU = torch.device("cpu")


def reached(name: str) -> torch.device:
    """RuntimeError where this process has no such device."""
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise RuntimeError(f"MAAS_DEVICE={name}: torch reaches {count} CUDA devices here; cpu is always there")
    return device


def natural(device: torch.device) -> str:
    """What `auto` computes in: bf16 on CUDA, fp16 where that is not to be had; fp32 elsewhere."""
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def sent(numbers: Tensor, device: torch.device) -> Tensor:
    """From the CPU to the device, without waiting for what it still computes."""
    return pinned(numbers, device).to(device, non_blocking=True)


def pinned(numbers: Tensor, device: torch.device) -> Tensor:
    """Where CUDA can fetch it by itself; as it is for other devices."""
    return numbers.pin_memory() if device.type == "cuda" else numbers
