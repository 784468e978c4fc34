"""Real speech for tests: espeak-ng through its C library (speak_lib.h), as 16 kHz samples."""

import ctypes
from functools import cache

import espeakng_loader
import numpy as np
import numpy.typing as npt

RATE = 16_000
SYNCHRONOUS, CHARS_UTF8, POSITION_CHARACTER = 2, 1, 1
COLLECT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
heard: list[npt.NDArray[np.int16]] = []


@COLLECT
def collect(samples: "ctypes._Pointer[ctypes.c_short]", count: int, events: int) -> int:
    if samples and count:
        heard.append(np.ctypeslib.as_array(samples, (count,)).copy())
    return 0


@cache
def library() -> tuple[ctypes.CDLL, int]:
    """espeak and its rate in Hz. Initialised once: a second time frees phonemes that its voice still reads."""
    espeak = ctypes.CDLL(espeakng_loader.get_library_path())
    integer, size, pointer = ctypes.c_uint, ctypes.c_size_t, ctypes.c_void_p
    espeak.espeak_Synth.argtypes = [ctypes.c_char_p, size, integer, integer, integer, integer, pointer, pointer]
    rate = espeak.espeak_Initialize(SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
    espeak.espeak_SetSynthCallback(collect)
    espeak.espeak_SetVoiceByName(b"en")
    return espeak, rate


@cache
def say(text: str) -> npt.NDArray[np.float32]:
    """float32 [samples] in [-1, 1] at 16 kHz."""
    espeak, rate = library()
    heard.clear()
    words = text.encode()
    espeak.espeak_Synth(words, len(words) + 1, 0, POSITION_CHARACTER, 0, CHARS_UTF8, None, None)
    espeak.espeak_Synchronize()
    return _resample(np.concatenate(heard).astype(np.float32) / 32768, rate)


def _resample(samples: npt.NDArray[np.float32], rate: int) -> npt.NDArray[np.float32]:
    """Linear interpolation: enough for a voice detector."""
    places = np.arange(0, len(samples) - 1, rate / RATE)
    return np.interp(places, np.arange(len(samples)), samples).astype(np.float32)
