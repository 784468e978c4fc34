"""What every `maas call` command shares: where to call, and what to do with the answer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import typer
from google.protobuf.message import Message

from cli.answers import footer, print_replies
from cli.client import Answer, Client
from services.runtime.tls.settings import TlsSettings

Address = Annotated[str, typer.Option(envvar="MAAS_ADDRESS", help="Gateway, or a service itself.")]
Timeout = Annotated[float, typer.Option(min=0.001, help="Deadline, seconds.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the replies as JSON.")]
CacheControl = Annotated[
    str, typer.Option(help="no-cache, no-store, max-age=SECONDS or only-if-cached.", show_default=False)
]
ADDRESS = "localhost:50050"
# An API key or a token.
CREDENTIAL = "MAAS_API_KEY"


@dataclass(frozen=True, slots=True)
class Calling:
    """Options of the group, kept in typer's context."""

    address: str
    timeout_s: float
    json: bool
    cache_control: str
    credential: str = ""
    tls: TlsSettings | None = None

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A client for one command."""
        metadata = {"cache-control": self.cache_control} if self.cache_control else {}
        metadata |= {"authorization": f"Bearer {self.credential}"} if self.credential else {}
        with Client(self.address, self.timeout_s, metadata, self.tls) as client:
            yield client

    def run(self, method: str, request: Message, show: Callable[[Answer], None]) -> None:
        """One unary call: JSON if asked for, else `show` and a line on how it went."""
        with self.client() as client:
            self.finish(client.call(method, request), show)

    def finish(self, answer: Answer, show: Callable[[Answer], None]) -> None:
        """Print what came."""
        if self.json:
            print_replies(answer)
        else:
            show(answer)
        footer(answer)


def of(context: typer.Context) -> Calling:
    """The group's options."""
    found = context.find_object(Calling)
    assert found is not None
    return found
