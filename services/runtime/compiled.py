"""C++ source → shared library, once for each change of it. Knows a compiler's command line."""

import hashlib
import logging
import os
import shutil
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

log = logging.getLogger("maas.build")

TIMEOUT_S = 300
FOLDER = Path("~/.cache/maas/kernels")


class NoCompiler(Exception):
    """No library, and nothing to build one with. Says why."""


@dataclass(frozen=True)
class Project:
    """Sources of one library. objects: name → file of the folder and its own flags. libraries: for the linker."""

    name: str
    source: Path
    flags: tuple[str, ...]
    objects: Mapping[str, tuple[str, tuple[str, ...]]]
    libraries: tuple[str, ...] = ()

    def library(self, folder: Path, compiler: str = "g++") -> Path:
        """The library in `folder`, built first if this source was never built there. Raises NoCompiler."""
        path = folder / f"lib{self.name}-{self.digest()}.so"
        if not path.is_file():
            if shutil.which(compiler) is None:
                raise NoCompiler(f"no {compiler} is on the PATH")
            log.info("building %s, once for each change of its source", self.name)
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=folder) as aside:
                self._build(compiler, Path(aside)).replace(path)
        return path

    def digest(self) -> str:
        """Of source, flags and machine: another of these, another library."""
        told = hashlib.sha256(repr((self.flags, self.objects, os.uname().machine)).encode())
        for file in sorted(self.source.iterdir()):
            told.update(file.name.encode() + file.read_bytes())
        return told.hexdigest()[:16]

    def _build(self, compiler: str, aside: Path) -> Path:
        def compile_one(name: str) -> Path:
            source, flags = self.objects[name]
            made = aside / f"{name}.o"
            _run([compiler, *self.flags, *flags, "-c", str(self.source / source), "-o", str(made)])
            return made

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
            objects = list(threads.map(compile_one, self.objects))
        made = aside / f"lib{self.name}.so"
        _run([compiler, "-shared", *map(str, objects), "-o", str(made), *self.libraries, "-lpthread"])
        return made


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoCompiler(f"{command[0]} did not run: {error}") from error
    if done.returncode:
        raise NoCompiler(f"{' '.join(command)}\n{done.stderr[-2000:]}")
