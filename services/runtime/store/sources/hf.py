"""`hf:OWNER/NAME@REVISION:path`: a file of a model hub repository, through huggingface_hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.runtime.errors import InvalidInput, NotFound, Unavailable
from services.runtime.store.sources.report import Report

DIRECTORY_PATTERNS = ("*.json", "*.safetensors", "tokenizer.model", "vocab.txt", "merges.txt", "*.jinja")


def fetch(rest: str, cache: Path, report: Report) -> Path:
    """One file of a repository at one revision. NotFound, or Unavailable when the hub cannot be reached."""
    repository, revision, member = parse(rest)
    if not member:
        raise InvalidInput("source", f"'hf:{rest}' must be hf:OWNER/NAME@REVISION:path")
    from huggingface_hub import hf_hub_download

    with _translated(rest):
        return Path(hf_hub_download(repository, member, revision=revision, cache_dir=cache / "hub"))  # nosec B615


def fetch_directory(rest: str, cache: Path) -> Path:
    """A repository's configuration, tokenizer and safetensors; pickles stay where they are."""
    repository, revision, _ = parse(rest)
    from huggingface_hub import snapshot_download

    patterns = list(DIRECTORY_PATTERNS)
    with _translated(rest):
        path = snapshot_download(  # nosec B615
            repository, revision=revision, cache_dir=cache / "hub", allow_patterns=patterns
        )
    return Path(path)


def parse(rest: str) -> tuple[str, str | None, str]:
    """(OWNER/NAME, revision or None, path or "")."""
    where, _, member = rest.partition(":")
    repository, _, revision = where.partition("@")
    return repository, revision or None, member


@contextmanager
def _translated(rest: str) -> Iterator[None]:
    """Turn the hub library's errors into ours."""
    from huggingface_hub import errors

    try:
        yield
    except errors.HFValidationError as error:
        raise InvalidInput("source", str(error)) from error
    except errors.LocalEntryNotFoundError as error:
        raise Unavailable(f"hf:{rest} could not be fetched: {error}") from error
    except (errors.EntryNotFoundError, errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise NotFound("hub file", rest) from error
    except Exception as error:
        raise Unavailable(f"hf:{rest} could not be fetched: {error}") from error
