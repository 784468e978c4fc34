"""Where the `maas` command begins: Ctrl-C is exit code 130 and no traceback, while modules are still read too."""

import sys

STOPPED = 130  # what a shell expects of a program that Ctrl-C ended


def main() -> None:
    """Run the command line."""
    try:
        from cli.__main__ import main as run

        run()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(STOPPED)
