"""kill -9 at any moment of a publish: readers see whole versions only, and the next publisher cleans up."""

import subprocess
import sys
from pathlib import Path

from services.runtime.store.store import ModelStore

PUBLISHER = """
import sys
from pathlib import Path
from services.runtime.store.store import ModelStore

store = ModelStore(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    with store.publish("net") as draft:
        for name in ("a", "b", "c"):
            (draft.directory / name).write_bytes(name.encode() * 200_000)
        draft.fields["tasks"] = ["vision.classify"]
    print(draft.published.version, flush=True)
"""


def killed_after(root: Path, lines: int, more: int) -> None:
    """Run a publisher, let it publish `lines` versions and a part of the next, then kill it."""
    with subprocess.Popen([sys.executable, "-c", PUBLISHER, str(root)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(lines + 1):
            process.stdout.readline()
        sum(range(more))
        process.kill()


def test_no_half_version_is_ever_visible(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    for attempt in range(6):
        killed_after(tmp_path, lines=attempt % 2, more=attempt * 60_000)
        for version in store.versions("net"):
            manifest = store.manifest("net", version)
            assert sorted(manifest.files) == ["a", "b", "c"]
            store.verify(manifest)
    with store.publish("net") as draft:
        draft.fields["tasks"] = ["vision.classify"]
        left = [path for path in (tmp_path / ".staging").iterdir() if path.is_dir()]
        assert left == [draft.directory]
