"""The compiled part: built once for each change of its source, then imported. Knows no socket and no method."""

import sysconfig
from collections.abc import Callable, Sequence
from functools import cache
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any, Protocol

from services.runtime.compiled import FOLDER, NoCompiler, Project

NAME = "maas_h2"
FLAGS = (
    "-std=c++20",
    "-O2",
    "-fPIC",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Wno-missing-field-initializers",
)

Pairs = Sequence[tuple[str, str]]
# Kinds of events, and what follows the number of the stream in each:
# path, metadata, timeout, message, encoding · path, metadata, timeout · message, encoding · nothing.
CALL, BEGIN, MESSAGE, END, RESET, ROOM = range(6)
Event = tuple[Any, ...]


class Session(Protocol):
    """A connection, as `source/session.h` has it. Streams that are gone take everything without a word."""

    @property
    def unanswered(self) -> bool: ...
    @property
    def over(self) -> bool: ...
    def feed(self, data: memoryview) -> Sequence[Event]: ...
    def drain(self) -> bytes: ...
    def told(self) -> Sequence[Event]: ...
    def head(self, id: int, metadata: Pairs) -> None: ...
    def send(self, id: int, message: bytes) -> int: ...
    def finish(self, id: int, trailers: Pairs) -> None: ...
    def reply(self, id: int, metadata: Pairs, message: bytes, trailers: Pairs) -> None: ...
    def read(self, id: int, size: int) -> None: ...
    def sweep(self) -> None: ...
    def ping(self) -> None: ...
    def go_away(self) -> None: ...


# Paths whose requests are told when they are whole; the most bytes of a message; the most calls at once.
Open = Callable[[tuple[str, ...], int, int], Session]


def library(more: tuple[str, ...] = ()) -> Path:
    """The compiled part; `more`: flags for compiler and linker, as a sanitizer is asked for. Raises NoCompiler."""
    project = Project(
        NAME,
        Path(__file__).parent / "source",
        (*FLAGS, *more, f"-I{sysconfig.get_path('include')}"),
        {"session": ("session.cpp", ()), "module": ("module.cpp", ())},
        # By the name that needs no development package.
        ("-l:libnghttp2.so.14", *more),
    )
    return project.library(FOLDER.expanduser())


@cache
def load(more: tuple[str, ...] = ()) -> Open:
    """What opens a session. Raises NoCompiler where there is no g++, no header of Python's or no nghttp2."""
    loader = ExtensionFileLoader(NAME, str(library(more)))
    spec = spec_from_loader(NAME, loader)
    assert spec is not None
    try:
        module = module_from_spec(spec)
        loader.exec_module(module)
    except ImportError as error:
        raise NoCompiler(str(error)) from error
    found: Open = module.Connection
    return found
