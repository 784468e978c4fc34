"""Clients too heavy for the tests' own environment: each in one of its own, made at the first use and kept."""

import subprocess
import sys
from pathlib import Path

KSERVE = "kserve==0.21.0"


def python_with(requirement: str, cache: Path) -> Path:
    """The interpreter of an environment that has `requirement`, below the folder of downloads."""
    home = cache / "clients" / requirement
    done = home / "installed"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        subprocess.run([home / "bin" / "pip", "install", "--quiet", requirement], check=True)
        done.touch()
    return home / "bin" / "python"
