"""How the kernels are compiled: by `python -m services.generation.kernels.build`, or by the first service that
finds none. Knows the processors, not what it compiles."""

from pathlib import Path

from services.runtime.compiled import FOLDER, Project

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
KERNELS = Project("maas", Path(__file__).parent / "source", FLAGS, OBJECTS)


def library(folder: Path, compiler: str = "g++") -> Path:
    """The library in `folder`, built first if this source was never built there. Raises NoCompiler."""
    return KERNELS.library(folder, compiler)


if __name__ == "__main__":
    print(library(FOLDER.expanduser()))
