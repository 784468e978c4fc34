"""C++ built once for each change of it, and told when it is: that takes a minute."""

import logging
import shutil
from pathlib import Path

import pytest

from services.runtime.compiled import Project

BUILDING = "building one, once for each change of its source"


def test_a_build_is_told_and_made_once_for_each_source(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    caplog.set_level(logging.INFO, "maas.build")
    source = tmp_path / "source"
    source.mkdir()
    (source / "one.cpp").write_text("int one() { return 1; }\n")
    project = Project("one", source, ("-fPIC",), {"one": ("one.cpp", ())})
    first = project.library(tmp_path / "built")
    assert project.library(tmp_path / "built") == first and first.is_file()
    assert caplog.messages == [BUILDING]
    (source / "one.cpp").write_text("int one() { return 2; }\n")
    assert project.library(tmp_path / "built") != first
    assert caplog.messages == [BUILDING] * 2
