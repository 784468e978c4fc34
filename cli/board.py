"""What `maas up` shows: a live table on a terminal, a line for each change elsewhere. Decides nothing."""

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from cli.child import FAILED, RESTARTING, SERVING, UNWELL, Child
from cli.render import table
from cli.runfile import Process

COLOURS = {SERVING: "green", UNWELL: "yellow", RESTARTING: "yellow", FAILED: "red"}
EXAMPLES = (
    ("maas.tokenization.v1.TokenizationService/Tokenize", '{"texts": ["Hello world!"]}'),
    ("maas.sequence.v1.SequenceService/Transduce", '{"texts": ["computer"]}'),
    (
        "maas.generation.v1.GenerationService/Generate",
        '{"chat": {"messages": [{"role": "user", "content": "What is the capital of France?"}]}}',
    ),
)


class Board:
    """Hears of changes from the supervisor; `settle` ends the live table, later changes come as lines."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.processes: dict[str, Process] = {}
        self._live = Live(get_renderable=self._table, console=console, refresh_per_second=8)

    def start(self) -> None:
        """Begin to draw."""
        if self.console.is_terminal:
            self._live.start()

    def told(self, child: Child, why: str) -> None:
        """A child changed."""
        name, process = child.program.name, child.process
        self.processes[name] = process
        if not self._live.is_started or why:
            reason = escape(f" ({why})") if why else ""
            self.console.print(f"{name}: {coloured(process.state)}{reason}", highlight=False)

    def settle(self) -> None:
        """Draw the table a last time and stop."""
        if self._live.is_started:
            self._live.stop()

    def _table(self) -> Table:
        return process_table(self.processes)


def coloured(state: str) -> str:
    """The state in its colour."""
    colour = COLOURS.get(state, "cyan")
    return f"[{colour}]{escape(state)}[/{colour}]"


def process_table(processes: Mapping[str, Process]) -> Table:
    """Programs, where they listen, how they are."""
    rows = [
        [name, process.address, coloured(process.state), str(process.pid or ""), str(process.restarts or "")]
        for name, process in processes.items()
    ]
    return table(["program", "address", "state", "pid", "restarts"], rows, right=["pid", "restarts"])


def show_summary(
    console: Console,
    gateway: str,
    logs: str,
    tls: Mapping[str, str] = MappingProxyType({}),
    say: Callable[[str], str] = escape,
) -> None:
    """What to do next, once everything serves."""
    console.print(f"\nThe suite serves at [bold]{say(gateway)}[/bold]; logs in {say(logs)}. Try:")
    authority = tls.get("MAAS_TLS_AUTHORITY", "")
    if authority:
        console.print(say(f"  export MAAS_TLS_AUTHORITY={authority}"), soft_wrap=True, highlight=False)
    how = f"-cacert {authority}" if authority else "-plaintext"
    for method, request in EXAMPLES:
        line = f"  grpcurl {how} -d '{request}' {gateway} {method}"
        console.print(say(line), soft_wrap=True, highlight=False)
    console.print(f"  {command()} call generate --chat 'What is the capital of France?'", highlight=False)
    console.print("Or look at it in a browser: `make console`.", highlight=False)


def command() -> str:
    """How to run `maas` from here: by name where the shell finds it, else by path."""
    return "maas" if shutil.which("maas") else os.path.relpath(sys.argv[0])
