"""torch imported late, beside an event loop at work.

The interpreter stands still while it links a library, and would do so for as long as the disk takes to read it. So
the libraries are read before, while others go on.
"""

import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

LIBRARIES = ("libc10.so", "libtorch_cpu.so", "libtorch_python.so")
CHUNK_BYTES = 1 << 20


def read_ahead(package: str = "torch", libraries: tuple[str, ...] = LIBRARIES) -> None:
    """Has the libraries of a package in the system's cache before it is imported; nothing where it is already.

    Takes as long as the disk does: for a thread. What is not there is left to the import to tell.
    """
    found = None if package in sys.modules else find_spec(package)
    if found is None or found.origin is None:
        return
    room = bytearray(CHUNK_BYTES)
    for name in libraries:
        with suppress(OSError), (Path(found.origin).parent / "lib" / name).open("rb", buffering=0) as file:
            while file.readinto(room):
                pass
