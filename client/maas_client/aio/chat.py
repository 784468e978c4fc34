"""A conversation: each question is asked with all that was said before. Knows no channel."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from maas_client.ask.generation import Writing
from maas_client.ask.words import Message
from maas_client.conversation import Conversation
from maas_client.results import Delta, Generated


class Chat(Conversation):
    """One question at a time. One that fails, or whose answer nobody hears to its end, leaves no trace."""

    def __init__(
        self,
        generate: Callable[..., Awaitable[Generated]],
        stream: Callable[..., AsyncIterator[Delta]],
        system: str,
        messages: Iterable[Message],
        options: Writing,
    ) -> None:
        super().__init__(system, messages)
        self._generate, self._stream, self._options = generate, stream, options

    async def say(self, text: str) -> Generated:
        """The whole answer."""
        found = await self._generate(self.asking(text), **self._options)
        self.answered(text, found.text)
        return found

    async def stream(self, text: str) -> AsyncIterator[str]:
        """The answer as it is written."""
        heard: list[str] = []
        async for delta in self._stream(self.asking(text), **self._options):
            heard.append(delta.text)
            yield delta.text
        self.answered(text, "".join(heard))
