"""What the service must not load."""

import subprocess
import sys


def test_the_service_imports_nothing_heavy() -> None:
    code = "import sys, services.tokenization.__main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not {"torch", "transformers", "onnxruntime", "numpy"} & set(done.stdout.split())
