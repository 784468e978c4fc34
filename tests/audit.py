"""`python -m tests.audit REPORT`: what pip-audit's JSON says, in a few words; asks nobody.

pip-audit itself ends well where the service it asks knows no package at all, as behind a mirror.
"""

import json
import sys
from pathlib import Path
from typing import Any

OUT_OF_REACH = "the service that knows of vulnerabilities is out of reach: nothing was audited"


def told(report: Any) -> tuple[list[str], bool]:
    """Lines to print, and whether all is well: something was judged and nothing found."""
    packages = report["dependencies"]
    judged = [one for one in packages if "vulns" in one]
    # Our own are not published.
    skipped = [one["name"] for one in packages if "vulns" not in one and "editable" not in one["skip_reason"]]
    found = [
        f"{one['name']} {one['version']}: {vuln['id']}, mended in {', '.join(vuln['fix_versions']) or 'none'}"
        for one in judged
        for vuln in one["vulns"]
    ]
    if not judged:
        return [OUT_OF_REACH], False
    aside = [f"not known there, so not judged: {', '.join(skipped)}"] if skipped else []
    return [*found, *aside, f"{len(judged)} packages judged, {len(found)} vulnerabilities"], not found


def main(path: Path) -> int:
    """The exit code."""
    try:
        lines, well = told(json.loads(path.read_text()))
    except (OSError, json.JSONDecodeError):
        lines, well = [OUT_OF_REACH], False
    print("\n".join(lines))
    return int(not well)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
