"""A conversation: each question is asked with all that was said before. Knows no channel."""

from collections.abc import Callable, Iterable, Iterator

from maas_client.ask.generation import Writing
from maas_client.ask.words import Message
from maas_client.conversation import Conversation
from maas_client.results import Delta, Generated


class Chat(Conversation):
    """One question at a time. One that fails, or whose answer nobody hears to its end, leaves no trace."""

    def __init__(
        self,
        generate: Callable[..., Generated],
        stream: Callable[..., Iterator[Delta]],
        system: str,
        messages: Iterable[Message],
        options: Writing,
    ) -> None:
        super().__init__(system, messages)
        self._generate, self._stream, self._options = generate, stream, options

    def say(self, text: str) -> Generated:
        """The whole answer."""
        found = self._generate(self.asking(text), **self._options)
        self.answered(text, found.text)
        return found

    def stream(self, text: str) -> Iterator[str]:
        """The answer as it is written."""
        heard: list[str] = []
        for delta in self._stream(self.asking(text), **self._options):
            heard.append(delta.text)
            yield delta.text
        self.answered(text, "".join(heard))
