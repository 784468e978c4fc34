"""Locator and sha256 in, verified file out. Keeps what it fetched under its hash; knows no model."""

import shutil
from pathlib import Path

from services.runtime.errors import InvalidInput, PreconditionFailed
from services.runtime.store.files import hold, sha256_file
from services.runtime.store.sources import clients, file, hf, pypi
from services.runtime.store.sources.report import Report, silent

SCHEMES = {
    "file": file.fetch,
    "pypi": pypi.fetch,
    "hf": hf.fetch,
    "npm": clients.fetch_npm,
    "deb": clients.fetch_deb,
}


class SourceChanged(PreconditionFailed):
    """What a source delivers is not what was asked for."""

    reason = "SOURCE_CHANGED"


class Fetcher:
    """Fetches each file once: `<cache>/<sha256>` is the file with that hash."""

    def __init__(self, cache: Path, report: Report = silent) -> None:
        self.cache = cache
        self.report = report

    def fetch(self, source: str, sha256: str) -> Path:
        """The file with this hash. SourceChanged if the source delivers another one."""
        scheme, _, rest = source.partition(":")
        if scheme not in SCHEMES:
            raise InvalidInput("source", f"{source!r} must start with one of {', '.join(SCHEMES)}")
        self.cache.mkdir(parents=True, exist_ok=True)
        kept = self.cache / sha256
        with hold(self.cache / "lock"):
            if kept.is_file() and sha256_file(kept) == sha256:
                return kept
            found = SCHEMES[scheme](rest, self.cache, self.report)
            self._check(found, source, sha256)
            return found if scheme in ("file", "hf") else found.replace(kept)

    def _check(self, found: Path, source: str, sha256: str) -> None:
        actual = sha256_file(found)
        if actual != sha256:
            if found.parent == self.cache:
                found.unlink()
                self._drop_archives()
            raise SourceChanged(f"{source} has sha256 {actual}, wanted {sha256}")

    def forget_archives(self) -> None:
        """Drop the downloaded archives; the files taken out of them stay."""
        with hold(self.cache / "lock"):
            self._drop_archives()

    def _drop_archives(self) -> None:
        shutil.rmtree(self.cache / "archives", ignore_errors=True)
