"""`python cli/installing.py PIP…`: runs pip, shows in one line what it is at, and says all it said where it fails.

Needs no package, as it installs them."""

import os
import selectors
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import IO

EVERY_S = 1.0
QUIET_EVERY_S = 15.0  # where the line cannot be written over


def heard(pipe: IO[bytes]) -> Iterator[str]:
    """What has been said since the last time, once a second at least: it may be nothing."""
    with selectors.DefaultSelector() as ready:
        ready.register(pipe, selectors.EVENT_READ)
        while True:
            if not ready.select(EVERY_S):
                yield ""
            elif part := os.read(pipe.fileno(), 1 << 16):
                yield part.decode(errors="replace")
            else:
                return


def run(command: Sequence[str]) -> int:
    """Exit code of the command."""
    began, told, said = time.monotonic(), time.monotonic(), ""
    over = sys.stderr.isatty()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        for part in heard(process.stdout):
            said += part
            now = time.monotonic()
            if over or now - told > QUIET_EVERY_S:
                told = now
                show(f"{now - began:4.0f} s  {last(said)}", over)
    if over:
        show("", over)
    if process.returncode:
        sys.stderr.write(said)
    return process.returncode


def last(said: str) -> str:
    lines = said.strip().splitlines()
    return lines[-1].strip() if lines else ""


def show(line: str, over: bool) -> None:
    line = line[: shutil.get_terminal_size().columns - 1]
    sys.stderr.write(f"\r\x1b[K{line}" if over else f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(run([*sys.argv[1:], "--progress-bar", "off"]))
