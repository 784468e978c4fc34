"""What is read before a heavy import: the libraries, whole, and only once."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

from services.runtime.heavy import read_ahead

SIZE = 3_000_001


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "heavy_one" / "lib").mkdir(parents=True)
    (tmp_path / "heavy_one" / "__init__.py").touch()
    (tmp_path / "heavy_one" / "lib" / "libone.so").write_bytes(bytes(SIZE))
    monkeypatch.syspath_prepend(tmp_path)
    return "heavy_one"


def read() -> int:
    """Bytes that this process has read so far."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_libraries_are_read_whole_until_the_package_is_imported(package: str) -> None:
    before = read()
    read_ahead(package, ("libmissing.so", "libone.so"))
    assert SIZE <= read() - before < SIZE + 500_000
    import_module(package)
    before = read()
    try:
        read_ahead(package, ("libone.so",))
        assert read() - before < SIZE
    finally:
        del sys.modules[package]


def test_a_package_that_is_not_there_is_the_imports_business() -> None:
    read_ahead("no_such_package_at_all")
