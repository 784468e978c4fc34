"""A process that runs exported models only never pays for torch."""

import subprocess
import sys

WITHOUT_TORCH = "import sys, services.vision.__main__; sys.exit('torch' in sys.modules)"


def test_the_service_starts_without_torch() -> None:
    path = [entry for entry in sys.path if entry]
    code = f"import sys; sys.path[:0] = {path!r}; {WITHOUT_TORCH}"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
