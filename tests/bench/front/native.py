"""The compiled part: built once for each change of its source, then imported. Knows no server."""

import sysconfig
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

from services.runtime.compiled import FOLDER, Project

NAME = "maas_front"
FLAGS = (
    "-std=c++20",
    "-O2",
    "-fPIC",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Wno-missing-field-initializers",
)
PROJECT = Project(
    NAME,
    Path(__file__).parent / "source",
    (*FLAGS, f"-I{sysconfig.get_path('include')}"),
    {"session": ("session.cpp", ()), "module": ("module.cpp", ())},
    ("-l:libnghttp2.so.14",),
)


def load() -> ModuleType:
    """The extension. Raises NoCompiler without g++ or the headers of nghttp2."""
    loader = ExtensionFileLoader(NAME, str(PROJECT.library(FOLDER.expanduser())))
    spec = spec_from_loader(NAME, loader)
    assert spec
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module
