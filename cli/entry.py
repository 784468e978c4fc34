"""Where the `maas` command begins: Ctrl-C is exit code 130 and no traceback, while modules are still read too."""

import os
import signal
import sys
from types import FrameType

STOPPED = 130  # what a shell expects of a program that Ctrl-C ended


def main() -> None:
    """Run the command line."""
    told = signal.getsignal(signal.SIGINT)
    if told is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)
    from cli.__main__ import main as run

    signal.signal(signal.SIGINT, told)
    try:
        run()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(STOPPED)


def _stop(number: int, frame: FrameType | None) -> None:
    """Nothing is under way yet. An exception could be lost: compiled modules ignore what their callbacks raise."""
    os.write(sys.stderr.fileno(), b"stopped\n")
    os._exit(STOPPED)
