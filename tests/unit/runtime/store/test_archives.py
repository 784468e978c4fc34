"""Members of archives: the one asked for, and never one that leads elsewhere."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from services.runtime.errors import InvalidInput, NotFound
from services.runtime.store.sources.archives import extract


def make_tar(path: Path, members: dict[str, bytes], link: str | None = None) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        if link:
            entry = tarfile.TarInfo(link)
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(entry)
    return path


def make_wheel(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_a_member_of_a_wheel_and_of_an_sdist(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "p-1.whl", {"p/data.bin": b"w"})
    sdist = make_tar(tmp_path / "p-1.tar.gz", {"p-1/p/data.bin": b"s"})
    assert extract(wheel, "p/data.bin", tmp_path / "out").read_bytes() == b"w"
    assert extract(sdist, "p/data.bin", tmp_path / "out").read_bytes() == b"s"


def test_a_missing_member_is_told_with_what_is_near(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "p-1.whl", {"p/data.bin": b"", "p/code.py": b""})
    with pytest.raises(NotFound, match=r"available: p/data\.bin$"):
        extract(wheel, "p/date.bin", tmp_path / "out")


@pytest.mark.parametrize("member", ["../evil", "/etc/passwd", "p/../../evil", "p\\evil", ""])
def test_no_member_leads_out(tmp_path: Path, member: str) -> None:
    archives = [
        make_wheel(tmp_path / "p-1.whl", {member or "x": b""}),
        make_tar(tmp_path / "p-1.tar.gz", {f"p-1/{member}": b""}),
    ]
    for archive in archives:
        with pytest.raises(InvalidInput, match="relative path"):
            extract(archive, member, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_link_member_is_refused(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "p-1.tar.gz", {}, link="p-1/data.bin")
    with pytest.raises(InvalidInput, match="not a regular file"):
        extract(archive, "data.bin", tmp_path / "out")


def test_damaged_and_unknown_archives_are_told(tmp_path: Path) -> None:
    whole = make_tar(tmp_path / "p-1.tar.gz", {"p-1/data.bin": bytes(range(256)) * 999}).read_bytes()
    for name, content in {"a.whl": b"no zip", "b.tar.gz": whole[: len(whole) // 2]}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidInput, match="damaged"):
            extract(tmp_path / name, "data.bin", tmp_path / "out")
    with pytest.raises(InvalidInput, match="no archive"):
        extract(tmp_path / "c.exe", "data.bin", tmp_path / "out")


def test_the_whole_archive_is_a_member_called_dot(tmp_path: Path) -> None:
    package = make_tar(tmp_path / "p-1.tgz", {"package/a": b"1", "package/b": b"2"})
    assert extract(package, ".", tmp_path / "out").read_bytes() == package.read_bytes()
