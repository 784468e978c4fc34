"""What `make audit` concludes: well only if packages were judged and none is vulnerable."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.audit import OUT_OF_REACH, main

SOUND = {"name": "idna", "version": "3.10", "vulns": []}
BAD = {"name": "old", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"], "description": "…"}]}
UNKNOWN = {"name": "torch", "skip_reason": "Dependency not found on PyPI and could not be audited: torch (2+cpu)"}
OWN = {"name": "maas", "skip_reason": "distribution marked as editable"}


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([SOUND, OWN], 0, "1 packages judged, 0 vulnerabilities"),
        ([SOUND, UNKNOWN], 0, "not judged: torch"),
        ([SOUND, BAD], 1, "old 1: CVE-1, mended in 2"),
        ([UNKNOWN, OWN], 1, OUT_OF_REACH),
        ([], 1, OUT_OF_REACH),
        (None, 1, OUT_OF_REACH),
    ],
)
def test_an_audit_is_well_only_if_something_was_judged_and_sound(
    packages: Any, code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if packages is not None:
        (tmp_path / "report").write_text(json.dumps({"dependencies": packages, "fixes": []}))
    assert main(tmp_path / "report") == code
    assert said in capsys.readouterr().out
