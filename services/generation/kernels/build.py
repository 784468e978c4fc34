"""C++ source → shared library, once for each change of it: by `python -m services.generation.kernels.build`, or by
the first service that finds none. Knows a compiler's command line, not what it compiles."""

import hashlib
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

SOURCE = Path(__file__).parent / "source"
FLAGS = (
    *("-std=c++20", "-O3", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-Wall", "-Wextra"),
    "-ffp-contract=off",  # a row's bits must not hang on where the compiler saw a product and a sum
    *("-Wno-psabi", "-Wno-ignored-attributes", "-Wno-maybe-uninitialized"),  # of GCC's own headers
)
AVX512 = tuple(f"-mavx512{part}" for part in ("f", "bw", "vl", "dq", "vnni"))
# pass.cc once for each instruction set; library.cc chooses among them by the processor.
OBJECTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "avx512": ("pass.cc", ("-DMAAS_ISA=avx512", *AVX512, "-mavx2", "-mfma", "-mprefer-vector-width=512")),
    "avx2": ("pass.cc", ("-DMAAS_ISA=avx2", "-mavx2", "-mfma")),
    "portable": ("pass.cc", ("-DMAAS_ISA=portable",)),
    "pool": ("pool.cc", ()),
    "library": ("library.cc", ()),
}
TIMEOUT_S = 300
FOLDER = Path("~/.cache/maas/kernels")


class NoCompiler(Exception):
    """No library, and nothing to build one with. Says why."""


def library(folder: Path, compiler: str = "g++") -> Path:
    """The library in `folder`, built first if this source was never built there. Raises NoCompiler."""
    path = folder / f"libmaas-{digest()}.so"
    if not path.is_file():
        if shutil.which(compiler) is None:
            raise NoCompiler(f"no {compiler} is on the PATH")
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as aside:
            _build(compiler, Path(aside)).replace(path)
    return path


def digest() -> str:
    """Of source, flags and machine: another of these, another library."""
    told = hashlib.sha256(repr((FLAGS, OBJECTS, os.uname().machine)).encode())
    for file in sorted(SOURCE.iterdir()):
        told.update(file.name.encode() + file.read_bytes())
    return told.hexdigest()[:16]


def _build(compiler: str, aside: Path) -> Path:
    def compile_one(name: str) -> Path:
        source, flags = OBJECTS[name]
        made = aside / f"{name}.o"
        _run([compiler, *FLAGS, *flags, "-c", str(SOURCE / source), "-o", str(made)])
        return made

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        objects = list(threads.map(compile_one, OBJECTS))
    made = aside / "libmaas.so"
    _run([compiler, "-shared", *map(str, objects), "-o", str(made), "-lpthread"])
    return made


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoCompiler(f"{command[0]} did not run: {error}") from error
    if done.returncode:
        raise NoCompiler(f"{' '.join(command)}\n{done.stderr[-2000:]}")


if __name__ == "__main__":
    print(library(FOLDER.expanduser()))
