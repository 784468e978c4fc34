"""Builds what a service has in C++ where its process will look for it; run once while its image is made."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from services.runtime.compiled import FOLDER
from services.runtime.h2 import native


def words() -> Path:
    from services.tokenization.native.library import WORDS

    return WORDS.library(FOLDER.expanduser())


def kernels() -> Path:
    from services.generation.kernels.build import library

    return library(FOLDER.expanduser())


# Service → its own beside the transport, which is every server's.
OWN: Mapping[str, tuple[Callable[[], Path], ...]] = {
    "tokenization": (words,),
    "generation": (kernels,),
    "suite": (words, kernels),
}

if __name__ == "__main__":
    for build in (native.library, *OWN.get(sys.argv[1], ())):
        print(build())
