"""Runs inside pip: finds one pinned archive as pip is configured to, and downloads it without building it.

`pip download` runs a source archive's build code to read its metadata; this stops before that. The index,
credentials, proxies, certificates and retries are pip's own. Speaks JSON lines on stdout.
"""

import hashlib
import json
import sys
from optparse import Values
from pathlib import Path

from pip._internal.commands.download import DownloadCommand
from pip._internal.models.link import Link
from pip._internal.network.session import PipSession
from pip._internal.network.utils import HEADERS, response_chunks

ATTEMPTS = 5


def say(**event: object) -> None:
    """One event for the parent process."""
    print(json.dumps(event), flush=True)


class FetchCommand(DownloadCommand):
    """`download`, minus dependencies, metadata and builds: NAME VERSION DIRECTORY."""

    def run(self, options: Values, args: list[str]) -> int:
        """Download one archive; the last event carries its path."""
        name, version, directory = args
        session = self.get_default_session(options)
        finder = self._build_package_finder(options, session, ignore_requires_python=True)
        found = finder.find_all_candidates(name)
        links = [candidate.link for candidate in found if str(candidate.version) == version]
        if not links:
            say(missing=sorted({str(candidate.version) for candidate in found}))
            return 1
        link = min(links, key=lambda link: not link.is_wheel)
        say(path=str(download(session, link, Path(directory))))
        return 0


def download(session: PipSession, link: Link, directory: Path) -> Path:
    """The archive under `directory`, whole and with the hash its index states; resumes what was begun."""
    target = directory / link.filename
    part = directory / f"{link.filename}.part"
    for attempt in range(ATTEMPTS):
        try:
            receive(session, link, part)
            break
        except Exception as error:
            if attempt == ATTEMPTS - 1:
                raise
            say(retry=str(error))
    part.replace(target)
    return target


def receive(session: PipSession, link: Link, part: Path) -> None:
    """Append what is missing to `part`. ValueError, with `part` dropped, if its hash is not the index's."""
    begun = part.stat().st_size if part.is_file() else 0
    wanted = HEADERS | ({"Range": f"bytes={begun}-"} if begun else {})
    with session.get(link.url_without_fragment, headers=wanted, stream=True) as response:
        if response.status_code == 416:
            part.unlink()
        response.raise_for_status()
        begun = begun if response.status_code == 206 else 0
        length = int(response.headers.get("content-length", 0))
        copy(response_chunks(response, 1 << 18), part, begun, begun + length if length else None)
    check(part, link, begun + length if length else None)


def copy(chunks: object, part: Path, done: int, total: int | None) -> None:
    """Write the chunks after the first `done` bytes of `part`."""
    with part.open("r+b" if done else "wb") as file:
        file.seek(done)
        for chunk in chunks:  # type: ignore[attr-defined]
            done += file.write(chunk)
            say(done=done, total=total)


def check(part: Path, link: Link, total: int | None) -> None:
    """Raise unless `part` is complete and hashes to what the index says."""
    if total is not None and part.stat().st_size < total:
        raise ValueError(f"{link.filename}: connection closed at {part.stat().st_size} of {total} bytes")
    if link.hash_name and link.hash_name in hashlib.algorithms_guaranteed:
        with part.open("rb") as file:
            found = hashlib.file_digest(file, link.hash_name).hexdigest()
        if found != link.hash:
            part.unlink()
            raise ValueError(f"{link.filename}: {link.hash_name} {found}, the index says {link.hash}")


def main(args: list[str]) -> int:
    """Run the command with pip's own option, configuration and error handling."""
    quiet = ["--quiet", "--disable-pip-version-check", "--no-cache-dir", "--no-input"]
    return FetchCommand("download", "fetch one archive").main([*quiet, *args])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
